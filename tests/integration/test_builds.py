"""Images built from source: real bug fixes between releases through the gate, and layers from a mirror of a history."""

import subprocess
from pathlib import Path

import pytest

from swedag.artifacts import read_jsonl, sha256_file, write_jsonl
from swedag.errors import SwedagError
from swedag.grading.gate import ledger_row
from swedag.grading.run import GradingSettings
from swedag.images import layers, mirror, summary
from swedag.images.instance import build_layer
from swedag.images.record import ImageRecord
from swedag.releases import ReleasesSettings, compare, instance_of
from swedag.sandbox import Sandbox
from tests.integration.images import pytest_only_environment, released_source

pytestmark = pytest.mark.integration

# The fixes of two packages and the tests that notice them, found by running each suite on both releases with plain pytest.
PAIRS = {
    "xmltodict-0.14.1.to-0.14.2": [
        "tests/test_xmltodict.py::XMLToDictTestCase::test_keep_whitespace",
        "tests/test_xmltodict.py::XMLToDictTestCase::test_skip_whitespace",
    ],
    "pathspec-0.12.0.to-0.12.1": ["tests/test_03_pathspec.py::PathSpecTest::test_01_match_file_3_unmatch"],
}
SETTINGS = ReleasesSettings(
    kind="releases", environment="py311", pairs={"xmltodict": ["0.14.1..0.14.2"], "pathspec": ["0.12.0..0.12.1"]}
)


@pytest.mark.parametrize("instance_id", PAIRS)
def test_real_bug_fix_becomes_an_instance_that_passes_its_gate(instance_id: str, tmp_path: Path):
    package, before, after = SETTINGS.releases()[instance_id]
    older, newer = (released_source(f"{package}=={version}") for version in (before, after))
    row = instance_of(instance_id, SETTINGS, older, newer, pytest_only_environment())
    assert PAIRS[instance_id] == row.FAIL_TO_PASS
    assert len(row.PASS_TO_PASS) > 10 and not set(row.PASS_TO_PASS) & set(row.FAIL_TO_PASS)
    assert "tests/" in row.test_patch and "tests/" not in row.patch and "PKG-INFO" not in row.patch
    images = tmp_path / "images"
    (images / "envs").mkdir(parents=True)
    (images / "envs/py311.sif").symlink_to(pytest_only_environment())
    (images / "sources").mkdir()
    (images / f"sources/{package}-{before}.tar.gz").symlink_to(older)
    write_jsonl(tmp_path / "rows.jsonl", [row])
    shard = tmp_path / "mine/images/small"
    layers.main([instance_id], tmp_path / "rows.jsonl", images, tmp_path / "work", shard / "shard-0.images.jsonl")
    [record] = read_jsonl(shard / "shard-0.images.jsonl", ImageRecord)
    ledger = ledger_row(row, images, GradingSettings(timeout_seconds=60), record)
    assert (ledger.passed, ledger.gold_outcome, ledger.empty_outcome) == (True, "resolved", "unresolved"), ledger.reason
    assert ledger.bytes == record.bytes == (images / record.file).stat().st_size < 2 * older.stat().st_size
    write_jsonl(shard / "shard-0.gates.jsonl", [ledger])
    csv = tmp_path / "images.csv"
    summary.main(tmp_path, None, csv)
    assert summary.read_shards(tmp_path) == ([ledger], {record.sha256: record.seconds})
    assert csv.read_text().splitlines()[1].startswith(f"{instance_id},")


def test_releases_that_only_their_tests_tell_apart_are_no_instance(tmp_path: Path):
    source = released_source("xmltodict==0.14.2")
    difference = compare(source, source)
    assert (difference.patch, difference.test_patch, difference.test_files) == ("", "", [])
    with pytest.raises(SwedagError, match=r"xmltodict-0\.14\.1\.to-0\.14\.2: the releases do not differ in their code"):
        instance_of("xmltodict-0.14.1.to-0.14.2", SETTINGS, source, source, pytest_only_environment())


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def history(tmp_path: Path) -> tuple[Path, str]:
    """A mirror of three commits, tags and branches, and the one in the middle."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    commits = []
    for name in ("past", "base", "future"):
        (origin / "module.py").write_text(f"NAME = '{name}'\n")
        (origin / name).write_text(f"only in {name}\n")
        (origin / "run.sh").write_text("#!/bin/sh\n")
        (origin / "run.sh").chmod(0o755)
        git(origin, "add", "--all")
        git(origin, "commit", "-q", "-m", name)
        git(origin, "tag", f"v-{name}")
        commits.append(git(origin, "rev-parse", "HEAD"))
        git(origin, "rm", "-q", name)
    git(origin, "branch", "fix")
    mirror.main(str(origin), tmp_path / "mirror.git")
    return tmp_path / "mirror.git", commits[1]


def test_layer_from_a_mirror_is_the_base_commit_and_no_other(history: tuple[Path, str], tmp_path: Path):
    repository, base = history
    build_layer(repository, "", tmp_path / "layer.sqsh", base)
    with Sandbox(pytest_only_environment(), tmp_path / "layer.sqsh") as sandbox:
        assert sandbox.run("git rev-parse HEAD; git rev-list --all --count").output == f"{base}\n1\n"
        assert sandbox.run("git status --porcelain; git remote; git tag; git stash list; git reflog").output == ""
        assert sandbox.run("cat module.py; stat -c %a run.sh").output == "NAME = 'base'\n755\n"
        objects = sandbox.run("git cat-file --batch-all-objects --batch").output
        assert "only in base" in objects and "only in past" not in objects and "only in future" not in objects
        assert sandbox.run("grep -rla 'only in future' .git").output == ""
        assert (
            sandbox.run("find .git -name FETCH_HEAD -o -name ORIG_HEAD -o -name logs -o -name alternates").output == ""
        )


def test_layers_from_a_mirror_are_bit_reproducible(history: tuple[Path, str], tmp_path: Path):
    repository, base = history
    for number in (1, 2):
        build_layer(repository, "", tmp_path / f"{number}.sqsh", base)
    assert sha256_file(tmp_path / "1.sqsh") == sha256_file(tmp_path / "2.sqsh")


def test_commit_that_a_mirror_lacks_is_named(history: tuple[Path, str], tmp_path: Path):
    absent = "0" * 39 + "1"
    with pytest.raises(SwedagError, match=rf"mirror\.git has no commit {absent}; delete the mirror"):
        build_layer(history[0], "", tmp_path / "layer.sqsh", absent)
    assert not (tmp_path / "layer.sqsh").exists()


def test_repository_that_cannot_be_cloned_is_named(tmp_path: Path):
    with pytest.raises(SwedagError, match="nowhere: could not be cloned"):
        mirror.main(str(tmp_path / "nowhere"), tmp_path / "mirror.git")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_is_at_most_twice_its_compressed_worktree(tmp_path: Path):
    """The environment adds nothing to it: git's objects are stored once, uncompressed, and squashed with the rest."""
    source = released_source("sqlparse==0.5.3")
    build_layer(source, "", tmp_path / "layer.sqsh")
    assert (tmp_path / "layer.sqsh").stat().st_size <= 2 * source.stat().st_size
