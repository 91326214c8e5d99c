"""The wheels of an environment in one tar, so that the image itself is built without a network."""

import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag.apptainer import run_tool
from swedag.artifacts import replacing


class EnvironmentSettings(BaseModel):
    """Software that instances are tested in; one image serves all instances that name it."""

    model_config = ConfigDict(extra="forbid")

    suite: str = Field("bookworm", description="Debian release of the operating-system image")
    python: str = Field("3.11", description="Python of that release, for which wheels are chosen")
    requirements: list[str] = Field(min_length=1, description="Pinned packages of the environment, pytest among them")


def main(
    settings: Annotated[str, typer.Option(help="EnvironmentSettings as JSON")],
    output: Annotated[Path, typer.Option(help="The wheels (.tar)")],
) -> None:
    """Fetch the wheels of an environment, dependencies included. Needs a network; run it on a login node."""
    chosen = EnvironmentSettings.model_validate_json(settings)
    with tempfile.TemporaryDirectory() as folder:
        what = f"{', '.join(chosen.requirements)}: not all wheels could be fetched"
        download(what, folder, chosen.python, *chosen.requirements)
        pack(Path(folder), output)


def download(what: str, folder: str, python: str, *arguments: str) -> None:
    """Wheels for this kind of machine and that Python; `arguments` of `pip download` say which."""
    machine = os.uname().machine
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
    run_tool(
        what,
        *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", python),
        *[
            word
            for name in (*platforms, f"manylinux2014_{machine}", f"linux_{machine}")
            for word in ("--platform", name)
        ],
        *("--dest", folder, *arguments),
    )


def pack(folder: Path, output: Path) -> None:
    """The files of a folder as a tar, without owners and times."""
    with replacing(output) as temporary, tarfile.open(temporary, "w") as tar:
        for wheel in sorted(folder.iterdir()):
            tar.add(wheel, wheel.name, filter=_bare)


def _bare(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    return member
