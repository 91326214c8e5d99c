"""`swedag init-site` on a real Slurm, and where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swedag.site import Site, read_site
from tests.slurm.cluster import ACCOUNT, Cluster

pytestmark = pytest.mark.integration


def init_site(*arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swedag", "init-site", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})


def test_it_writes_what_slurm_says_and_the_profile_reads_it(cluster: Cluster, tmp_path: Path):
    file = tmp_path / "site.yaml"
    done = init_site("--output", str(file), "--node-local", "/local/$SLURM_JOB_ID")
    assert done.returncode == 0, done.stderr
    assert read_site(file) == Site(
        account=ACCOUNT,
        cpu_partition="cpu",
        cpu_minutes=1440,
        cpu_memory_mb=32000,
        cpu_cores=8,
        gpu_partition="gpu",
        gpu_minutes=2880,
        gpu_memory_mb=32000,
        gpu_cores=8,
        gpus=2,
        gpu_type="h100",
        node_local="/local/$SLURM_JOB_ID",
    )
    again = init_site("--output", str(file))
    assert again.returncode == 1 and "--force" in again.stderr
    assert init_site("--output", str(file), "--force", "--gpu-partition", "urgent").returncode == 0
    assert read_site(file).gpu_partition == "urgent"


def test_a_dry_run_writes_nothing(cluster: Cluster, tmp_path: Path):
    done = init_site("--output", str(tmp_path / "site.yaml"), "--dry-run")
    assert done.returncode == 0 and "gpu_type: 'h100'" in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_slurm_does_not_know_is_refused(cluster: Cluster, tmp_path: Path):
    for option in ("--account", "--cpu-partition"):
        done = init_site("--output", str(tmp_path / "site.yaml"), option, "nobody")
        assert done.returncode == 1 and "nobody" in done.stderr


def test_without_slurm_it_says_where_to_run(tmp_path: Path):
    done = init_site("--output", str(tmp_path / "site.yaml"), path=str(tmp_path))
    assert done.returncode == 1
    assert "login node" in done.stderr and "Traceback" not in done.stderr
