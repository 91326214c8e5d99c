"""The wheels of a tool image, exactly those of its lock, in one tar: the image is built of what was checked."""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from swedag.apptainer import run_tool
from swedag.artifacts import replacing
from swedag.errors import SwedagError

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
        download(what, folder, "--require-hashes", "--requirement", str(lock))
        torch = cpu_torch(requirements, lock)
        if torch:
            try:
                download(what, folder, torch)
            except SwedagError:
                download(what, folder, torch, "--index-url", CPU_INDEX)
        with replacing(output) as temporary:
            plain = ("--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner")
            run_tool(str(output), "tar", "-c", "-f", temporary, "-C", folder, *plain, ".")


def cpu_torch(requirements: Path, lock: Path) -> str | None:
    """A lock for CPUs leaves torch out, whose CPU build lies elsewhere; the requirement that stands for it."""
    if TORCH.search(lock.read_text()):
        return None
    pinned = TORCH.search(requirements.read_text())
    if not pinned:
        raise SwedagError(f"{requirements}: no line torch==VERSION, and {lock} has no torch either")
    return f"torch=={pinned[1]}+cpu"


def download(what: str, folder: str, *arguments: str) -> None:
    machine = os.uname().machine
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
    run_tool(
        what,
        *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON),
        *[
            word
            for name in (*platforms, f"manylinux2014_{machine}", f"linux_{machine}")
            for word in ("--platform", name)
        ],
        *("--dest", folder, *arguments),
    )
