"""The wheels of a tool image, exactly those of its lock, in one tar: the image is built of what was checked."""

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from swedag.errors import SwedagError
from swedag.images.wheels import download, pack

PYTHON = "3.11"  # of both bases in envs/*.def
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH = re.compile(r"^torch==([\w.]+)", re.MULTILINE)


def main(
    requirements: Annotated[Path, typer.Option(help="What was locked (envs/*.in)")],
    lock: Annotated[Path, typer.Option(help="The lock (envs/*.lock)")],
    output: Annotated[Path, typer.Option(help="The wheels (.tar)")],
) -> None:
    """Fetch the wheels of a tool image. Needs a network; run it on a login node."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=output.parent) as folder:
        what = f"{lock}: not all wheels could be fetched"
        download(what, folder, PYTHON, "--no-deps", "--require-hashes", "--requirement", str(lock))
        torch = cpu_torch(requirements, lock)
        if torch:
            try:
                download(what, folder, PYTHON, "--no-deps", torch)
            except SwedagError:
                download(what, folder, PYTHON, "--no-deps", torch, "--index-url", CPU_INDEX)
        pack(Path(folder), output)


def cpu_torch(requirements: Path, lock: Path) -> str | None:
    """A lock for CPUs leaves torch out, whose CPU build lies elsewhere; the requirement that stands for it."""
    if TORCH.search(lock.read_text()):
        return None
    pinned = TORCH.search(requirements.read_text())
    if not pinned:
        raise SwedagError(f"{requirements}: no line torch==VERSION, and {lock} has no torch either")
    return f"torch=={pinned[1]}+cpu"
