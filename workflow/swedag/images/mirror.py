"""A mirror of a repository's whole history, cloned once, from which the layers of all its instances are made."""

import shutil
from pathlib import Path
from typing import Annotated, Literal, Self

import typer
from pydantic import BaseModel, ConfigDict, Field, model_validator

from swedag.apptainer import run_tool
from swedag.artifacts import replacing_directory


class BuildSettings(BaseModel):
    """Images made here: environments, and a layer per instance from a mirror of its repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["build"] = Field(description="Built here")
    environment: str | None = Field(
        None, description="The environment that all instances are tested in; null: those of config/specs, per version"
    )
    python: str | None = Field(None, description="Python of the environments of config/specs, in place of theirs")
    constraints: list[str] = Field(
        [], description="What pip is held to where config/specs leave a version open, as `boto3==1.34.50`"
    )
    mirror: str = Field(
        "https://github.com/{repo}.git", description="URL or local path of a repository; {repo} is owner/name"
    )
    test_command: str = Field("", description="Runs tests, in place of the command of the specs")

    @model_validator(mode="after")
    def _one_environment_or_specs(self) -> Self:
        if self.environment and (self.python or self.constraints):
            raise ValueError(f"python and constraints are for environments of config/specs, not {self.environment!r}")
        return self

    def environment_of(self, specified: str, version: str) -> str:
        """The image that an instance is tested in, whose spec calls its environment `specified`.

        A spec may serve many versions of a repository, but what these require differs.
        """
        return self.environment or f"{specified}-v{version}" + (f"-py{self.python}" if self.python else "")


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
