"""Images and sources that integration tests share, made once per checkout by the package's own steps."""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swedag.artifacts import sha256
from swedag.images import environment, sources, system, wheels
from swedag.images.tool_image import TOOL_LOCKS
from tests.conftest import ROOT, Checkout, copy_sources

FOLDER = ROOT / "results" / "images"
SUITE = "bookworm"


def pytest_only_environment() -> Path:
    """An environment image with pytest and nothing else."""
    image = FOLDER / "tests" / "pytest.sif"
    with _alone():
        os_image, archive = _operating_system(), FOLDER / "tests" / "pytest.wheels.tar"
        if not archive.exists():
            wheels.main(json.dumps({"suite": SUITE, "requirements": ["pytest==8.4.2"]}), archive)
        if not image.exists():
            environment.main(os_image, archive, ROOT / "envs" / "environment.def", image)
    return image


def operating_system() -> Path:
    """The operating-system image of every environment here."""
    with _alone():
        return _operating_system()


def _operating_system() -> Path:
    image = FOLDER / "tests" / f"{SUITE}.sif"
    if not image.exists():
        system.main(SUITE, image)
    return image


def tool_image(tool: str) -> Path:
    """The image of a tool, such as train-cpu, built by its own rules; its digest lies beside it."""
    envs = [ROOT / "envs" / name for name in (f"{tool.partition('-')[0]}.def", f"{TOOL_LOCKS[tool]}.lock")]
    made_of = [*envs, ROOT / "workflow/swedag/images/tool_image.py"]
    key = sha256("".join(path.read_text() for path in made_of))[:12]
    image = FOLDER / "tests" / f"{tool}-{key}.sif"
    with _alone():
        if not image.exists():
            os_image = _operating_system()
            with tempfile.TemporaryDirectory(dir=image.parent) as folder:
                checkout = copy_sources(Path(folder))
                built = checkout.path / f"results/images/tools/{tool}.sif"
                base = checkout.path / "results/images/os" / os_image.name
                base.parent.mkdir(parents=True)
                base.symlink_to(os_image)
                target = str(built.relative_to(checkout.path))
                checkout.snakemake(target, "--allowed-rules", "tool_wheels", "tool_image")
                shutil.move(built.with_suffix(".sha256"), image.with_suffix(".sha256"))
                shutil.move(built, image)
    return image


def put_tool_image(checkout: Checkout, tool: str) -> Path:
    """The image of a tool, in its place in a checkout and newer than all that it is made of."""
    image, place = tool_image(tool), checkout.path / f"results/images/tools/{tool}.sif"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(image)
    place.with_suffix(".sha256").write_text(image.with_suffix(".sha256").read_text())
    return place


def released_source(package: str) -> Path:
    """The sdist of a pinned package, as `sqlparse==0.5.3`."""
    path = FOLDER / "tests" / f"{package.replace('==', '-')}.tar.gz"
    with _alone():
        if not path.exists():
            sources.main(package, path)
    return path


@contextmanager
def _alone() -> Iterator[None]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
