"""What Slurm costs beside the work: `python -m tests.benchmarks.slurm_overhead`, as root, after envs/install-slurm.sh.

Runs the DAG of tests/data/mini.yaml on a Slurm of its own and prints, for each job with a benchmark, how much longer
its allocation lasted than its command, and how long after its end Snakemake noticed. Then the no-op rerun of a finished
paper-scale DAG, whose artifacts are empty files.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.benchmarks import machine
from tests.conftest import copy_sources, mini_checkout
from tests.slurm.cluster import running
from tests.slurm.conftest import Site

TARGET_SECONDS = 30
TOUCH = "import snakemake.executors.touch as touch, snakemake.cli; touch.SLEEPING_TIME = 0; snakemake.cli.main()"


@dataclass(frozen=True)
class Job:
    """One job in seconds: its command, its allocation, and from the end of that until Snakemake knew of it."""

    rule: str
    command: float
    allocation: float
    noticed: float


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-overhead-") as folder:
        Path(folder).chmod(0o755)
        cluster, whole, paper = [Path(folder) / name for name in ("cluster", "whole", "paper")]
        for path in (cluster, whole, paper):
            path.mkdir()
        with running(cluster) as slurm:
            site = Site(slurm, mini_checkout(whole))
            said = site.start("all").finish(seconds=3000)
            print(table(jobs_of(site, said)))
        seconds, jobs = noop_rerun(paper)
    met = "met" if seconds <= TARGET_SECONDS else "MISSED"
    print(f"\nno-op rerun of the paper's DAG, {jobs} jobs: {seconds:.1f} s (target {TARGET_SECONDS} s): {met}\n")
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))


def table(jobs: list[Job]) -> str:
    """Medians by rule, and of all."""
    lines = ["| rule | jobs | command, s | allocation beyond it, s | noticed after, s |", "|---|---:|---:|---:|---:|"]
    for rule in [*sorted({job.rule for job in jobs}), "all"]:
        some = [job for job in jobs if rule in (job.rule, "all")]
        command = statistics.median(job.command for job in some)
        beyond = statistics.median(job.allocation - job.command for job in some)
        noticed = statistics.median(job.noticed for job in some)
        lines.append(f"| {rule} | {len(some)} | {command:.1f} | {beyond:.1f} | {noticed:.1f} |")
    return "\n".join(lines)


def jobs_of(site: Site, said: str) -> list[Job]:
    """The jobs of a run, by what it said, that keep a benchmark."""
    measured = (_measured(site, said, number, slurm) for number, slurm in submitted(said))
    return [job for job in measured if job]


def submitted(said: str) -> list[tuple[str, str]]:
    """Snakemake's number and Slurm's id of each job that a run submitted."""
    return re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", said)


def _measured(site: Site, said: str, number: str, slurm: str) -> Job | None:
    """The times of one job; None where its rule keeps no benchmark."""
    described = re.search(
        rf"(?m)^rule (\w+):\n(?:    .*\n)*?    jobid: {number}\n(?:    .*\n)*?    benchmark: (\S+)\n", said
    )
    finished = re.search(rf"(?m)^\[(.+)\]\nFinished jobid: {number} ", said)
    if not described or not finished:
        return None
    command = json.loads((site.checkout.path / described[2]).read_text())["s"]
    elapsed, end = site.cluster.say(
        "sacct", "-X", "--noheader", "--parsable2", f"--jobs={slurm}", "--format=ElapsedRaw,End"
    ).split("|")
    noticed = datetime.strptime(finished[1], "%a %b %d %H:%M:%S %Y") - datetime.fromisoformat(end)
    return Job(described[1], command, float(elapsed), noticed.total_seconds())


def noop_rerun(folder: Path) -> tuple[float, int]:
    """Seconds of `snakemake --profile slurm all` when nothing is to be done, and the number of jobs that were."""
    checkout = copy_sources(folder)
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow")}

    def snakemake(*arguments: str) -> str:
        words = [sys.executable, "-c", TOUCH, *arguments, "--profile", "slurm"]
        done = subprocess.run(words, cwd=checkout.path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    outputs = [
        line.split("\t")[0] for line in snakemake("all", "--summary").splitlines() if line.startswith("results/")
    ]
    for output in outputs:
        path = folder / output
        is_folder = not path.suffix or path.suffix == ".git"
        path.mkdir(parents=True) if is_folder else path.parent.mkdir(parents=True, exist_ok=True)
        (path / ".snakemake_timestamp" if is_folder else path).touch()
    touched = snakemake("all", "--touch")
    started = time.monotonic()
    said = snakemake("all")
    seconds = time.monotonic() - started
    assert "Nothing to be done" in said, said[-3000:]
    return seconds, int(re.findall(r"(?m)^total +(\d+)$", touched)[0])


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as reason:
        sys.exit(str(reason))
