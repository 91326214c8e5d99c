"""`swedag releases`: real bug fixes as instances, one per pair of releases of a package: before the fix, and with it.

In: the sdists of both releases, an environment image. Out: rows whose gold patch is the difference of the sources and
whose test patch is that of the tests. FAIL_TO_PASS and PASS_TO_PASS are measured: the tests of the newer release run
twice on either code, and a test counts if it does the same both times.
"""

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, field_validator
from rich.console import Console
from unidiff import PatchSet

from swedag.apptainer import run_tool
from swedag.artifacts import sha256, sha256_file, write_jsonl
from swedag.errors import SwedagError
from swedag.grading import logs
from swedag.grading.patches import TEST_FILE, is_test_path
from swedag.grading.tree import apply_patch
from swedag.images.instance import COMMIT, GIT, build_layer, unpack_sdist
from swedag.instances import Instance
from swedag.journal import Journal, code_digest
from swedag.lease import claim
from swedag.sandbox import Limits, Sandbox, SandboxError
from swedag.synthesize.trial import run_tests

# Written by the build of the sdist, not by the people who fixed the bug.
GENERATED = re.compile(r"(^|/)(PKG-INFO|SOURCES\.txt)$|\.egg-info/|\.dist-info/")
NEWS = re.compile(r"(^|/)(changes|changelog|history|news|release|whatsnew)[^/]*$", re.IGNORECASE)
LONGEST_NEWS = 4000


class ReleasesSettings(BaseModel):
    """Instances that are the bug fixes between two releases of a package, tested by the newer release's tests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["releases"] = Field(description="Pairs of releases")
    environment: str = Field(description="The environment that the packages are tested in")
    pairs: dict[str, list[str]] = Field(
        min_length=1, description="Package → pairs of versions with an sdist on the index, as 0.5.0..0.5.1"
    )
    test_command: str = Field(
        "pytest -rA -p no:cacheprovider -o addopts=", description="Runs tests; test files are appended to it"
    )
    ignored_tests: list[str] = Field([], description="Tests (beginnings of ids) that are not counted")
    seconds: int = Field(120, ge=1, description="CPU time of one run of the tests")
    memory_mb: int = Field(2048, ge=64, description="Memory of a sandbox, in MiB")

    @field_validator("pairs")
    @classmethod
    def _are_pairs(cls, pairs: dict[str, list[str]]) -> dict[str, list[str]]:
        for package, ranges in pairs.items():
            for versions in ranges:
                older, _, newer = versions.partition("..")
                if not older or not newer or older == newer or not re.fullmatch(r"[\w.+!-]+", older + newer):
                    raise ValueError(f"{package}: {versions!r} is not a pair of versions, as 0.5.0..0.5.1")
        return pairs

    def releases(self) -> dict[str, tuple[str, str, str]]:
        """(package, older version, newer version) by instance_id."""
        return {
            f"{package}-{older}.to-{newer}": (package, older, newer)
            for package, ranges in self.pairs.items()
            for older, _, newer in (versions.partition("..") for versions in ranges)
        }

    def instance_ids(self) -> list[str]:
        """The ids of the data set, which are known before it is made."""
        return list(self.releases())

    def source_of(self, instance_id: str) -> str:
        """The release that an instance's repository is at, as `name-version`."""
        package, older, _ = self.releases()[instance_id]
        return f"{package}-{older}"

    def sources(self) -> list[str]:
        """All releases that are compared, as `name-version`, each once."""
        return sorted({f"{package}-{version}" for package, *pair in self.releases().values() for version in pair})


@dataclass(frozen=True)
class Difference:
    """What turns the older release into the newer: of the code, and of its tests (both git diffs); the news of it."""

    patch: str
    test_patch: str
    test_files: list[str]
    news: str


def main(
    settings: Annotated[str, typer.Option(help="ReleasesSettings as JSON")],
    sources: Annotated[Path, typer.Option(help="Folder of the sdists")],
    images: Annotated[Path, typer.Option(help="Folder of the images (envs/<environment>.sif)")],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="The instances, as JSONL")],
    workers: Annotated[int, typer.Option(help="Pairs measured at the same time")] = 1,
) -> None:
    """Make an instance of each pair of releases. SwedagError when a pair's tests notice nothing."""
    chosen = ReleasesSettings.model_validate_json(settings)
    environment = images / "envs" / f"{chosen.environment}.sif"
    if not environment.is_file():
        raise SwedagError(f"{environment}: no such file; the environment {chosen.environment!r} is not built")
    console = Console(stderr=True)

    def measured(instance_id: str, journal: Journal) -> Instance | str:
        package, older, newer = chosen.releases()[instance_id]
        pair = [sources / f"{package}-{version}.tar.gz" for version in (older, newer)]
        hashes = " ".join(sha256_file(path) for path in [*pair, environment])
        key = sha256(f"{code_digest('releases')} {hashes} {instance_id} {chosen.model_dump_json(exclude={'pairs'})}")
        known = journal.get(key)
        if known is None:
            try:
                known = {"row": instance_of(instance_id, chosen, pair[0], pair[1], environment).model_dump(mode="json")}
            except SandboxError:
                raise
            except SwedagError as error:
                known = {"why_not": str(error)}
            journal.append(key, known)
        console.print(f"{instance_id}: {known.get('why_not', 'measured')}", highlight=False, markup=False)
        return str(known["why_not"]) if "why_not" in known else Instance.model_validate(known["row"])

    with claim(work), Journal(work / "journal.jsonl") as journal, ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda name: measured(name, journal), sorted(chosen.releases())))
    useless = [one for one in found if isinstance(one, str)]
    if useless:
        raise SwedagError(
            f"{len(useless)} of {len(found)} pairs are no instances; take them out:\n" + "\n".join(useless)
        )
    write_jsonl(output, [one for one in found if isinstance(one, Instance)])


def instance_of(instance_id: str, settings: ReleasesSettings, older: Path, newer: Path, environment: Path) -> Instance:
    """The row of one pair, measured. SwedagError says why it is none."""
    package, before, after = settings.releases()[instance_id]
    difference = compare(older, newer)
    if not difference.patch or not difference.test_files:
        lacks = "tests" if difference.patch else "code"
        raise SwedagError(f"{instance_id}: the releases do not differ in their {lacks}")
    limits = Limits(seconds=24 * 3600, memory_mb=settings.memory_mb)
    with tempfile.TemporaryDirectory(prefix="swedag-releases-") as folder:
        layer = Path(folder) / f"{instance_id}.sqsh"
        build_layer(older, "", layer)
        with Sandbox(environment, layer, limits) as sandbox:
            _apply(sandbox, difference.test_patch, f"{instance_id}: test patch")
            unfixed = _statuses(sandbox, settings, difference.test_files)
            _apply(sandbox, difference.patch, f"{instance_id}: gold patch")
            fixed = _statuses(sandbox, settings, difference.test_files)
    ignored = tuple(settings.ignored_tests) or ("\0",)
    passing = sorted(name for name, status in fixed.items() if status in logs.PASSING and not name.startswith(ignored))
    fail_to_pass = [name for name in passing if unfixed.get(name) in ("FAILED", "ERROR", logs.MISSING)]
    if not fail_to_pass:
        raise SwedagError(f"{instance_id}: no test fails before the fix and passes with it ({len(passing)} pass)")
    news = difference.news or f"What {after} mends is tested by:\n" + "\n".join(fail_to_pass[:10])
    return Instance(
        instance_id=instance_id,
        repo=package,
        version=before,
        problem_statement=f"Bugs of {package} {before} that {after} mends\n\n{news}",
        patch=difference.patch,
        test_patch=difference.test_patch,
        FAIL_TO_PASS=fail_to_pass,
        PASS_TO_PASS=[name for name in passing if unfixed.get(name) in logs.PASSING],
        environment=settings.environment,
        source=f"sdist:{package}=={before}",
        test_command=settings.test_command,
        test_files=difference.test_files,
    )


def compare(older: Path, newer: Path) -> Difference:
    """The difference between two sdists, split by path as SWE-bench does; files of the build and binaries left out."""
    with tempfile.TemporaryDirectory(prefix="swedag-releases-") as folder:
        trees = Path(folder)
        for name, source in (("a", older), ("b", newer)):
            unpack_sdist(source, trees / f"{name}-archive", trees / name)
        what = f"{older.name} and {newer.name}"
        git = (*GIT, f"--git-dir={trees}/git")
        run_tool(what, *git, "init", "-q", "--template=", cwd=trees, env=COMMIT)

        def tree_of(name: str) -> str:
            run_tool(what, *git, f"--work-tree={trees / name}", "add", "--all", "--force", cwd=trees / name, env=COMMIT)
            return run_tool(what, *git, "write-tree", env=COMMIT).strip()

        diff = (*git, "diff", "--no-renames", "--no-color", "--no-ext-diff", tree_of("a"), tree_of("b"))
        counts = [line.split("\t") for line in run_tool(what, *diff, "--numstat", "-z", env=COMMIT).split("\0") if line]
        paths = [path for _, _, path in counts if not GENERATED.search(path)]
        binary = {path for added, _, path in counts if added == "-"}
        tests = [path for path in paths if is_test_path(path)]
        code = [path for path in paths if not is_test_path(path) and path not in binary]

        def patch_of(wanted: list[str]) -> str:
            return run_tool(what, *diff, "--binary", "--", *wanted, env=COMMIT) if wanted else ""

        news = [
            line.value
            for file in PatchSet(patch_of([path for path in code if NEWS.search(path)]))
            for hunk in file
            for line in hunk
            if line.is_added
        ]
        named_as_tests = [path for path in tests if TEST_FILE.search(path) or PurePosixPath(path).name == "tests.py"]
        return Difference(
            patch=patch_of(code),
            test_patch=patch_of(tests),
            test_files=[path for path in named_as_tests if (trees / "b" / path).is_file()],
            news="".join(news).strip()[:LONGEST_NEWS],
        )


def _apply(sandbox: Sandbox, patch: str, what: str) -> None:
    applied = apply_patch(sandbox, patch)
    if not applied.ok:
        raise SwedagError(f"{what} does not apply: {applied.log[-500:]}")


def _statuses(sandbox: Sandbox, settings: ReleasesSettings, test_files: list[str]) -> dict[str, str]:
    """Statuses of two runs; a test that the two disagree on is left out."""
    command = " ".join([settings.test_command, *test_files])
    runs = [run_tests(sandbox, command, settings.seconds) for _ in range(2)]
    for run in runs:
        if run.exit_code not in (0, 1, 2):
            raise SwedagError(f"the tests do not run (exit code {run.exit_code}): {run.tail[-600:]}")
    first, second = (run.statuses for run in runs)
    return {name: status for name, status in first.items() if second.get(name) == status}
