"""Fixtures that several tests share: a fresh copy of the checkout, and one that has run the whole DAG in small."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

# No property depends on how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parent.parent
SOURCES = ("workflow", "rules", "config", "envs", "README.md", "pyproject.toml", "local", "slurm")


@dataclass(frozen=True)
class Checkout:
    """A copy of the sources in a folder of its own; tools and shared images are borrowed from the real checkout."""

    path: Path

    def snakemake(
        self, *arguments: str, check: bool = True, profile: str = "local", **options
    ) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(self.path / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            ["snakemake", *arguments, "--profile", profile],
            cwd=self.path, env=environment, capture_output=True, text=True, **options,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


def copy_sources(target: Path) -> Checkout:
    for name in SOURCES:
        source = ROOT / name
        if source.is_symlink():
            (target / name).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(
                source, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy2(source, target / name)
    for borrowed in (".venv-tools", ".apptainer"):
        if (ROOT / borrowed).exists():
            (target / borrowed).symlink_to(ROOT / borrowed)
    return Checkout(target)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return copy_sources(tmp_path)


def mini_checkout(folder: Path) -> Checkout:
    """A checkout with the DAG in small, and the operating system's image that its own step has made for all tests."""
    from tests.integration.images import operating_system

    checkout = copy_sources(folder)
    shutil.copy2(ROOT / "tests/data/mini.yaml", folder / "config/mini.yaml")
    (folder / "results/images/os").mkdir(parents=True)
    shutil.copy2(operating_system(), folder / "results/images/os")
    os.utime(folder / "results/images/os/bookworm.sif")
    return checkout


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which `all` of the DAG in small has been made once on this machine, undisturbed."""
    checkout = mini_checkout(tmp_path_factory.mktemp("finished"))
    checkout.snakemake("all", "--configfile", "config/mini.yaml")
    return checkout
