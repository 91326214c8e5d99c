"""The time that Slurm leaves a job: told by the environment, else asked of squeue, else unknown."""

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from swedag.walltime import seconds_left


@pytest.fixture(autouse=True)
def outside_of_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SLURM_JOB_END_TIME", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def squeue(folder: Path, says: str) -> None:
    (folder / "squeue").write_text(f"#!/bin/sh\n[ $3 = 17 ] && echo '{says}'\n")
    (folder / "squeue").chmod(0o755)


def test_nothing_is_known_outside_of_slurm():
    assert seconds_left() is None


def test_newer_slurm_tells_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 600))
    assert 500 < seconds_left() <= 600


def test_older_slurm_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    squeue(tmp_path, (datetime.now() + timedelta(minutes=10)).isoformat(timespec="seconds"))
    assert 500 < seconds_left() <= 600


@pytest.mark.parametrize("said", ["N/A", "NONE", ""])
def test_a_job_without_a_limit_has_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    squeue(tmp_path, said)
    assert seconds_left() is None
