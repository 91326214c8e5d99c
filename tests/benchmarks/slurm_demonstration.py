"""The demonstration on a Slurm of its own: its results beside those of `make demo`, and what Slurm costs beside the work.

    make demo
    python -m tests.benchmarks.slurm_demonstration       # as root, after envs/install-slurm.sh

In: results/demo of this checkout. `snakemake --profile slurm all` makes the same in a fresh copy, tool images included.
Out, on the terminal and in results/benchmarks/slurm_demonstration.md: which artifacts are the same to the byte; for each job
with a benchmark, how much longer its allocation lasted than its command, and how long after its end Snakemake noticed;
and the no-op rerun of a finished paper-scale DAG, whose artifacts are empty files.
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
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import pytest
import typer

from swedag.artifacts import write_text
from tests.benchmarks import machine
from tests.conftest import ROOT, copy_sources
from tests.slurm.cluster import running
from tests.slurm.conftest import Site

TARGET_SECONDS = 30
LONGEST_SECONDS = 7200
ARTIFACTS = (
    "instances/*.jsonl",
    "attempts/*.csv",
    "sft/*.jsonl",
    "checkpoints/*/*.safetensors",
    "verifiers/*/data.jsonl",
    "verifiers/*/checkpoint/*.safetensors",
    "tables/*",
    "figures/*.svg",
)
TOUCH = "import snakemake.executors.touch as touch, snakemake.cli; touch.SLEEPING_TIME = 0; snakemake.cli.main()"


@dataclass(frozen=True)
class Job:
    """One job in seconds: its command, its allocation, and from the end of that until Snakemake knew of it."""

    rule: str
    command: float
    allocation: float
    noticed: float


def main(
    config: Annotated[str, typer.Option(help="What to run; its run has the file's name")] = "config/demo.yaml",
    user: Annotated[
        str | None, typer.Option(help="Whose checkout and jobs they are, with a range in /etc/subuid (default: root's)")
    ] = None,
) -> None:
    """Run a config on a Slurm of its own, and the no-op rerun of the paper."""
    state, expected = machine.describe(), ROOT / "results" / Path(config).stem
    if not expected.is_dir():
        sys.exit(f"{expected}: no such folder; run {config} on this machine first (make demo)")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        Path(folder).chmod(0o755)
        cluster, whole, paper = [Path(folder) / name for name in ("cluster", "whole", "paper")]
        for path in (cluster, whole, paper):
            path.mkdir()
        with running(cluster) as slurm:
            site = Site(slurm, copy_sources(whole), config, user)
            if user:
                slurm.add_user(user)
                subprocess.run(["chown", "--recursive", "--no-dereference", user, whole], check=True)
            started = time.monotonic()
            run = site.start("all")
            print(f"{' '.join(run.words)}\nits output: {run.log}", file=sys.stderr)
            said = run.finish(seconds=LONGEST_SECONDS)
            seconds, jobs = time.monotonic() - started, jobs_of(site, said)
            same = beside(expected, site.results)
        noop_seconds, noop_jobs = noop_rerun(paper)
    met = "met" if noop_seconds <= TARGET_SECONDS else "MISSED"
    text = "\n".join(
        [
            f"# {config} on Slurm",
            "",
            f"`{' '.join(run.words)}`: {len(submitted(said))} jobs of Slurm's in {seconds / 60:.0f} min.",
            "",
            same,
            "",
            table(jobs),
            "",
            f"No-op rerun of the paper's DAG, {noop_jobs} jobs: {noop_seconds:.1f} s (target {TARGET_SECONDS}): {met}",
            "",
            "; ".join(f"{key} {value}" for key, value in state.items()),
            "",
        ]
    )
    write_text(Path("results/benchmarks/slurm_demonstration.md"), text)
    print(text)


def beside(expected: Path, found: Path) -> str:
    """How many files of each kind are the same in two results folders, to the byte, and where the others differ."""
    rows, differ = [], []
    for pattern in ARTIFACTS:
        paths = sorted({path.relative_to(folder) for folder in (expected, found) for path in folder.glob(pattern)})
        others = [path for path in paths if _content(expected / path) != _content(found / path)]
        rows.append([f"`{pattern}`", str(len(paths)), str(len(paths) - len(others))])
        differ += [f"- {path}: {_difference(expected / path, found / path)}" for path in others]
    return "\n".join([machine.table(["artifacts", "files", "as on this machine without Slurm"], rows), "", *differ])


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _difference(expected: Path, found: Path) -> str:
    one, other = _content(expected), _content(found)
    if one is None or other is None:
        return f"only {'on Slurm' if one is None else 'there'}"
    lines = zip_longest(one.splitlines(keepends=True), other.splitlines(keepends=True))
    return next(f"{there!r:.200} there, {here!r:.200} on Slurm" for there, here in lines if there != here)


def table(jobs: list[Job]) -> str:
    """Medians by rule, and of all."""
    rows = []
    for rule in [*sorted({job.rule for job in jobs}), "all"]:
        some = [job for job in jobs if rule in (job.rule, "all")]
        command = statistics.median(job.command for job in some)
        beyond = statistics.median(job.allocation - job.command for job in some)
        noticed = statistics.median(job.noticed for job in some)
        rows.append([rule, str(len(some)), f"{command:.1f}", f"{beyond:.1f}", f"{noticed:.1f}"])
    return machine.table(["rule", "jobs", "command, s", "allocation beyond it, s", "noticed after, s"], rows)


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
        typer.run(main)
    except pytest.skip.Exception as reason:
        sys.exit(str(reason))
