"""One Slurm for all tests here, one whole run on it, and checkouts in which to do harm."""

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import Checkout, mini_checkout
from tests.integration.images import put_tool_image
from tests.slurm.cluster import ACCOUNT, Cluster, running, until

CONFIG = "config/mini.yaml"
RESULTS = Path("results/mini")
# What the machine is too small for is made smaller here; all else is the profile as it stands.
SMALL = (
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--max-status-checks-per-second",
    "1",
    "--latency-wait",
    "15",
)
SITE = {
    "SWEDAG_ACCOUNT": ACCOUNT,
    "SWEDAG_CPU_PARTITION": "cpu",
    "SWEDAG_CPU_MEMORY_MB": "3000",
    "SWEDAG_CPU_CORES": "2",
    "SWEDAG_GPU_PARTITION": "gpu",
    "SWEDAG_GPU_MEMORY_MB": "3000",
    "SWEDAG_GPU_CORES": "2",
    "SWEDAG_GPU_TYPE": "h100",
    "SWEDAG_GPUS": "1",
}


@dataclass
class Run:
    """A started `snakemake --profile slurm` in a checkout."""

    checkout: Checkout
    words: list[str]
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def finish(self, status: int = 0, seconds: float = 400) -> str:
        """Wait for the end; what it said."""
        code = self.process.wait(seconds)
        assert code == status, self.said()[-6000:]
        return self.said()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Site:
    """A checkout on the cluster, which another user may own."""

    cluster: Cluster
    checkout: Checkout
    config: str = CONFIG
    user: str | None = None
    runs: list[Run] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.checkout.path / "results" / Path(self.config).stem

    def start(self, *targets: str, options: tuple[str, ...] = (), **environment: str) -> Run:
        log = self.checkout.path / f"run-{len(self.runs)}.log"
        words = ["snakemake", *targets, "--profile", "slurm", "--configfile", self.config, *SMALL, *options]
        environment = SITE | {"PYTHONPATH": str(self.checkout.path / "workflow")} | environment
        become = {}
        if self.user:
            user = pwd.getpwnam(self.user)
            become = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            environment |= {"HOME": user.pw_dir, "USER": self.user, "LOGNAME": self.user}
        with log.open("wb") as out:
            process = subprocess.Popen(
                words, cwd=self.checkout.path, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                env=os.environ | environment, **become,
            )  # fmt: skip
        self.runs.append(Run(self.checkout, words, process, log))
        return self.runs[-1]

    def records(self, shard: str) -> int:
        """Rollouts in the journal of a shard, named as below rollouts/."""
        journal = self.results / "work/rollouts" / shard / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def in_the_middle_of(self, shard: str, run: Run, records: int) -> tuple[str, int]:
        """Wait until a shard's job has journaled so many rollouts; the job's id and how many there are."""
        until(lambda: self.records(shard) >= records or run.ended(), f"{records} rollouts of {shard}", 200)
        assert not run.ended(), run.said()[-6000:]
        [job] = [job for job, rule in self.cluster.jobs("RUNNING").items() if rule == "rollouts"]
        return job, self.records(shard)

    def kept(self, shard: str) -> int:
        """How many rollouts of a shard its last job took from the journal."""
        log = (self.checkout.path / "logs/mini/rollouts" / f"{shard}.log").read_text()
        return int(re.findall(r"\((\d+) from the journal\)", log)[-1])

    def end(self) -> None:
        for run in self.runs:
            run.kill()
        self.cluster.cancel_all()
        # Of a node that was set down Slurm lets processes live, where no cgroup holds them together.
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """What runs of this checkout's jobs."""
        here, found = str(self.checkout.path), psutil.process_iter(["cmdline"])
        return [process for process in found if any(here in word for word in process.info["cmdline"] or ())]

    def server(self) -> psutil.Process:
        """The one model server of this checkout's jobs; not the guard, whose words end in the same command."""
        [server] = [one for one in self.processes() if one.info["cmdline"][1].endswith("serving/cpu_server.py")]
        return server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A checkout in which `snakemake --profile slurm all` has made the DAG in small."""
    site = Site(cluster, mini_checkout(tmp_path_factory.mktemp("whole")))
    for tool in ("train-cpu", "serve-cpu"):
        put_tool_image(site.checkout, tool)
    site.start("all").finish(seconds=1200)
    return site
