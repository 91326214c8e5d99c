"""A mirror of a repository's whole history, cloned once, from which the layers of all its instances are made."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag.apptainer import run_tool
from swedag.artifacts import replacing_directory


class BuildSettings(BaseModel):
    """Images made here: one environment, and a layer per instance from a mirror of its repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["build"] = Field(description="Built here")
    environment: str = Field(description="The environment that all instances of the dataset are tested in")
    mirror: str = Field(
        "https://github.com/{repo}.git", description="URL or local path of a repository; {repo} is owner/name"
    )
    test_command: str = Field("", description="Runs tests, in place of the command of the specs")


def main(
    url: Annotated[str, typer.Option(help="URL or local path of the repository")],
    output: Annotated[Path, typer.Option(help="The mirror (.git)")],
) -> None:
    """Clone a repository as a mirror. Needs a network for a URL; run it on a login node."""
    with replacing_directory(output) as folder:
        clone = folder / "mirror"
        run_tool(
            f"{url}: could not be cloned (is it reachable, and does it exist?)",
            *("git", "-c", "core.hooksPath=/dev/null", "clone", "--quiet", "--mirror", "--template=", url, clone),
            env={"GIT_TERMINAL_PROMPT": "0"},
        )
        # Instances ask for their commits by hash, whatever branch they were on.
        run_tool(url, "git", "-C", clone, "config", "uploadpack.allowAnySHA1InWant", "true")
        for path in clone.iterdir():
            shutil.move(path, folder / path.name)
        clone.rmdir()
