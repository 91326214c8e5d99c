"""`swedag synthesize`: a data set of instances, made by putting bugs into released packages.

In: sdists, an environment image, settings. Out: exactly the asked number of instances per package, each a bug that at
least one of the package's own tests notices, with the ids that the plan already knows. Functions belong to the
training or the evaluation split by a hash of their name, so two data sets with the same `eval_share` share none.
The result depends on the settings and the software alone, not on the number of workers, their speed, or a kill.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, field_validator
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from swedag.artifacts import sha256, sha256_file, write_jsonl
from swedag.edits import unified_patch
from swedag.errors import SwedagError
from swedag.images.instance import build_layer
from swedag.instances import Instance
from swedag.issues import issue_text
from swedag.journal import Journal, code_digest
from swedag.lease import claim
from swedag.sandbox import Limits, SandboxError
from swedag.synthesize.candidates import Candidate, Split, candidates
from swedag.synthesize.pool import SandboxPool, in_order
from swedag.synthesize.trial import (
    Found,
    Released,
    as_payload,
    found_by,
    from_payload,
    run_released,
    run_tests,
    try_bug,
)


class SynthesizeSettings(BaseModel):
    """Instances made by putting bugs into the functions of released packages that have a pytest suite."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["synthesized"] = Field("synthesized", description="Bugs put into released packages")
    environment: str = Field(description="The environment that the packages are tested in")
    packages: dict[str, int] = Field(min_length=1, description="`name==version` of an sdist on the index → instances")
    split: Split = Field(description="Which functions may get bugs; no function belongs to both")
    eval_share: float = Field(
        0.4, ge=0, le=1, description="Share of functions in the eval split; same in both data sets"
    )
    seed: int = Field(0, description="Order in which bugs are tried")
    test_command: str = Field(
        "pytest -rA -p no:cacheprovider", description="Runs the suite; test files are appended to it"
    )
    test_paths: dict[str, list[str]] = Field({}, description="`name==version` → what to append to run its whole suite")
    ignored_tests: list[str] = Field([], description="Tests (beginnings of ids) that may fail before any bug")
    max_lines: int = Field(12, ge=1, description="Longest function, in lines of code")
    max_characters: int = Field(500, ge=1, description="Longest function, in characters of code")
    max_failing: int = Field(20, ge=1, description="A bug that makes more tests fail is not taken")
    max_pass_to_pass: int = Field(100, ge=0, description="PASS_TO_PASS tests kept of each instance")
    max_per_function: int = Field(6, ge=1, description="Bugs tried per function")
    seconds: int = Field(10, ge=1, description="CPU time of the tests with a bug; a bug that hangs them is not taken")
    suite_seconds: int = Field(600, ge=1, description="CPU time of the whole suite while it is traced")
    memory_mb: int = Field(2048, ge=64, description="Memory of a sandbox, in MiB")
    workers: int = Field(2, ge=1, description="Bugs tried at the same time")

    @field_validator("packages")
    @classmethod
    def _pinned(cls, packages: dict[str, int]) -> dict[str, int]:
        for package, count in packages.items():
            name, _, version = package.partition("==")
            if not name or not version or count < 1:
                raise ValueError(f"{package!r}: {count} is not a pinned package and a positive number of instances")
        return packages

    def instance_ids(self) -> list[str]:
        """The ids of the data set, which are known before it is made."""
        return [instance_id(package, self.split, number) for package, n in self.packages.items() for number in range(n)]

    def source_of(self, instance_id: str) -> str:
        """The release that an instance's repository is made from, as `name-version`."""
        return instance_id.rpartition(".")[0]

    def sources(self) -> list[str]:
        return [package.replace("==", "-") for package in self.packages]


def instance_id(package: str, split: Split, number: int) -> str:
    return f"{package.replace('==', '-')}.{split}-{number:03d}"


def main(
    settings: Annotated[str, typer.Option(help="SynthesizeSettings as JSON")],
    sources: Annotated[Path, typer.Option(help="Folder of the sdists")],
    images: Annotated[Path, typer.Option(help="Folder of the images (envs/<environment>.sif)")],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="The instances, as JSONL")],
    workers: Annotated[int, typer.Option(help="Bugs tried at the same time (0: as the settings say)")] = 0,
) -> None:
    """Put bugs into released packages and keep those that the packages' own tests notice."""
    chosen = SynthesizeSettings.model_validate_json(settings)
    chosen = chosen.model_copy(update={"workers": workers or chosen.workers})
    environment = images / "envs" / f"{chosen.environment}.sif"
    if not environment.is_file():
        raise SwedagError(f"{environment}: no such file; the environment {chosen.environment!r} is not built")
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    rows: list[Instance] = []
    with (
        claim(work),
        Journal(work / "journal.jsonl") as journal,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        for package, wanted in chosen.packages.items():
            task = progress.add_task(f"{package} {chosen.split}", total=wanted)
            source = sources / f"{package.replace('==', '-')}.tar.gz"
            for number, row in enumerate(_instances(package, chosen, source, environment, work, journal), 1):
                rows.append(row)
                progress.update(task, completed=number)
    rows.sort(key=lambda row: row.instance_id)
    write_jsonl(output, rows)


def _instances(
    package: str, settings: SynthesizeSettings, source: Path, environment: Path, work: Path, journal: Journal
) -> Iterator[Instance]:
    """The first so many useful candidates, in their fixed order; SwedagError when there are too few."""
    if not source.is_file():
        raise SwedagError(f"{source}: no such file; the source of {package} was not fetched")
    software = sha256(
        f"{code_digest('synthesize.step')} {sha256_file(source)} {sha256_file(environment)} {settings.test_command}"
    )
    layer = work / f"{package.replace('==', '-')}-{software[:12]}.sqsh"
    if not layer.exists():
        build_layer(source, "", layer)
    pool = SandboxPool(environment, layer, Limits(seconds=24 * 3600, memory_mb=settings.memory_mb))
    with closing(pool):
        released = _released(package, settings, pool, journal, software)
        queue = candidates(
            package.partition("==")[0],
            released.files,
            released.coverage,
            split=settings.split,
            eval_share=settings.eval_share,
            max_lines=settings.max_lines,
            max_characters=settings.max_characters,
            max_per_function=settings.max_per_function,
            seed=settings.seed,
        )

        def judge(candidate: Candidate) -> Found | str:
            key = sha256(f"{software} {released.digest} {candidate} {settings.seconds} {settings.max_failing}")
            known = journal.get(key)
            if known is None:
                known = as_payload(_try(candidate, released, settings, pool))
                journal.append(key, known)
            return from_payload(known)

        number, why_not = 0, Counter[str]()
        for candidate, found in in_order(judge, queue, settings.workers):
            if isinstance(found, str):
                why_not[found] += 1
                continue
            yield _instance(package, settings, number, candidate, released, found)
            number += 1
            if number == settings.packages[package]:
                return
    reasons = ", ".join(f"{reason}: {count}" for reason, count in why_not.most_common())
    raise SwedagError(
        f"{package}: {number} of {settings.packages[package]} {settings.split} instances found among {len(queue)} bugs "
        f"({reasons}); ask for fewer, allow longer functions (max_lines, max_characters) or more bugs in each "
        "(max_per_function), or change eval_share"
    )


def _released(
    package: str, settings: SynthesizeSettings, pool: SandboxPool, journal: Journal, software: str
) -> Released:
    """Two runs of the suite without any bug, one of them traced; a test counts if it passes in both."""
    command = " ".join([settings.test_command, *settings.test_paths.get(package, [])])
    key = sha256(f"{software} {command} {settings.suite_seconds}")
    known = journal.get(key)
    if known is None:
        with pool.lend() as sandbox:
            try:
                released = run_released(sandbox, command, settings.suite_seconds)
                again = run_tests(sandbox, command, settings.suite_seconds).statuses
            except SandboxError:
                raise
            except SwedagError as error:
                raise SwedagError(f"{package}: {error}") from error
        statuses = {test: status for test, status in released.statuses.items() if again.get(test) == status}
        known = released.model_copy(update={"statuses": statuses}).model_dump(mode="json")
        journal.append(key, known)
    released = Released.model_validate(known)
    ignored = tuple(settings.ignored_tests)
    failing = {test: status for test, status in released.statuses.items() if status in ("FAILED", "ERROR")}
    counted = [f"{test} {status}" for test, status in failing.items() if not test.startswith(ignored or ("\0",))]
    if counted:
        raise SwedagError(
            f"{package}: {len(counted)} tests fail before any bug: {', '.join(counted[:3])}; mend the environment "
            f"{settings.environment!r}, choose another version, or name them in ignored_tests"
        )
    return released


def _try(candidate: Candidate, released: Released, settings: SynthesizeSettings, pool: SandboxPool) -> Found | str:
    """Run the candidate's tests with the bug in place."""
    source = released.files[candidate.bug.path]
    try:
        with pool.lend() as sandbox:
            run = try_bug(sandbox, candidate, source, settings.test_command, settings.seconds, settings.max_failing)
    except SandboxError:
        return "the sandbox does not survive the tests"
    return found_by(run, candidate, released.statuses, settings.max_failing)


def _instance(
    package: str, settings: SynthesizeSettings, number: int, candidate: Candidate, released: Released, found: Found
) -> Instance:
    """The row of one accepted bug. Its random choices hang on the bug, not on its place in the data set."""
    bug = candidate.bug
    rng = random.Random(f"{settings.seed}:{package}:{bug.model_dump_json()}")
    clean = released.files[bug.path]
    buggy = bug.inject(clean)
    kept = rng.sample(found.passing, min(settings.max_pass_to_pass, len(found.passing)))
    name, _, version = package.partition("==")
    return Instance(
        instance_id=instance_id(package, settings.split, number),
        repo=name,
        version=version,
        problem_statement=issue_text(bug, found.failing, rng),
        patch=unified_patch(bug.path, buggy, clean),
        bug_patch=unified_patch(bug.path, clean, buggy),
        FAIL_TO_PASS=found.failing,
        PASS_TO_PASS=sorted(kept),
        environment=settings.environment,
        source=f"sdist:{package}",
        test_command=settings.test_command,
        test_files=found.test_files,
        target=bug.target,
    )
