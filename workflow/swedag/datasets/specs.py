"""Environment specs: in what software an instance of a repository and version is tested, and with which command.

In: `config/specs/<owner>__<name>.yaml`, one per repository. Out: for a row its environment, its tests and its parser.
Repositories are looked up in lower case, as the original harness does.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from swedag.errors import SwedagError
from swedag.grading.patches import test_patch_files

FOLDER = Path("config/specs")
# Files of a test patch that no test runner is given (swegym and swebench: NON_TEST_EXTS).
NOT_TESTS = (".json", ".png", ".csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
CASE = re.compile(r"\[case ([^\]]+)\]")
Version = Annotated[str, Field(pattern=r"^[\w.]+$")]


class EnvironmentSpec(BaseModel):
    """Software that some versions of a repository are tested in. Commands run in the repository, in one shell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.-]+$", description="Unique within its repository: the oldest and newest version")
    versions: list[Version] = Field(min_length=1, description="Versions of the repository that it serves")
    python: str | None = Field(None, description="Python; None: as the conda environment file says")
    system_packages: list[str] = Field([], description="Packages of the distribution (Debian or Ubuntu)")
    requirements: list[str] = Field([], description="Requirements files at the base commit; the first found counts")
    conda_environment: list[str] = Field([], description="Conda environment files at the base commit, likewise")
    conda_environment_pip: bool = Field(True, description="Whether the environment file's pip section is installed")
    conda_packages: list[str] = Field([], description="Packages installed together with Python")
    pip_packages: list[str] = Field([], description="Packages installed by pip before the repository")
    prepare: list[str] = Field([], description="Commands before the repository is installed")
    install: list[str] = Field(description="Commands that install the repository")
    test_command: str = Field(description="Runs tests; the selected tests are appended to it")


class RepositorySpec(BaseModel):
    """The environments of one repository, no version in two of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Owner and name")
    log_parser: str = Field(description="A parser of swedag.grading.logs")
    test_selection: Literal["files", "cases", "modules"] = Field(
        "files", description="What is appended to the test command: files, names of mypy's cases, or Django's modules"
    )
    environments: list[EnvironmentSpec] = Field(min_length=1, description="Its environments")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, all_of in (
            ("environment", [environment.name for environment in self.environments]),
            ("version", [version for environment in self.environments for version in environment.versions]),
        ):
            doubled = sorted({one for one in all_of if all_of.count(one) > 1})
            if doubled:
                raise ValueError(f"{what} {', '.join(doubled)} stands more than once")
        return self

    def environment_of(self, version: str) -> EnvironmentSpec | None:
        return next((found for found in self.environments if version in found.versions), None)

    def environment_name(self, environment: EnvironmentSpec) -> str:
        """How images call it: unique among all repositories, lower case."""
        return f"{self.repository.replace('/', '__')}-{environment.name}".lower()

    def selected_tests(self, test_patch: str) -> list[str]:
        """What of a test patch is appended to the test command (swegym and swebench: `get_test_directives`)."""
        if self.test_selection == "cases":
            cases = dict.fromkeys(CASE.findall(test_patch))
            return [" or ".join(cases)] if cases else []
        files = [path for path in dict.fromkeys(test_patch_files(test_patch)) if not path.endswith(NOT_TESTS)]
        if self.test_selection == "modules":
            return [path.removesuffix(".py").removeprefix("tests/").replace("/", ".") for path in files]
        return files


def read_specs(paths: Iterable[Path]) -> dict[str, RepositorySpec]:
    """Specs by lower-cased repository; SwedagError names file and key."""
    specs: dict[str, RepositorySpec] = {}
    for path in paths:
        try:
            spec = RepositorySpec.model_validate(yaml.load(path.read_text(), _LOADER))
        except OSError as error:
            raise SwedagError(f"{path}: {error.strerror}; a spec is wanted there") from error
        except yaml.YAMLError as error:
            raise SwedagError(f"{path}: not YAML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise SwedagError(f"{path}: {'.'.join(map(str, first['loc'])) or 'spec'}: {first['msg']}") from error
        if spec.repository.lower() in specs:
            raise SwedagError(f"{path}: {spec.repository} has another spec already")
        specs[spec.repository.lower()] = spec
    return specs


def spec_files(repositories: Iterable[str] | None, folder: Path = FOLDER) -> list[Path]:
    """The spec files that exist for repositories (`owner/name` or `owner__name`, in any case) or for all, sorted."""
    files = sorted(folder.glob("*.yaml"))
    if repositories is None:
        return files
    wanted = {repository.lower().replace("/", "__") for repository in repositories}
    return [path for path in files if path.stem.lower() in wanted]


def resolve(
    specs: Mapping[str, RepositorySpec], repository: str, version: str
) -> tuple[RepositorySpec, EnvironmentSpec] | str:
    """The spec and environment of a repository's version, or why there is none."""
    spec = specs.get(repository.lower())
    if spec is None:
        return f"no spec for repository {repository}"
    environment = spec.environment_of(version)
    return (spec, environment) if environment else f"the spec of {spec.repository} has no version {version!r}"


# libyaml's loader reads the specs of all repositories in milliseconds; it is part of every wheel of PyYAML.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
