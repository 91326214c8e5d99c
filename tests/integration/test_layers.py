"""Layers of a shard, by git and squashfs: which are built, which are kept, and what becomes of a bad instance."""

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from swedag.artifacts import read_jsonl, sha256_file, write_jsonl
from swedag.edits import unified_patch
from swedag.errors import SwedagError
from swedag.grading.gate import ledger_row
from swedag.grading.run import GradingSettings
from swedag.images import layers, mirror
from swedag.images.instance import layer_file
from swedag.images.record import ImageRecord
from swedag.instances import Instance, image_files

pytestmark = pytest.mark.integration
CODE = "A = 1\nB = 2\nC = 3\n"
NAMES = ["pkg-1.0.eval-000", "pkg-1.0.eval-001", "pkg-1.0.eval-002"]


def instance(name: str, bug: str, **changes: str) -> Instance:
    values = {"source": "sdist:pkg==1.0", "bug_patch": unified_patch("pkg.py", CODE, CODE.replace(bug, f"{bug}0"))}
    return Instance(
        instance_id=name, repo="pkg", version="1.0", problem_statement="", patch="", environment="e",
        FAIL_TO_PASS=["t"], PASS_TO_PASS=[], test_command="pytest", test_files=["tests"], **(values | changes),
    )  # fmt: skip


def write_sdist(images: Path, code: str) -> None:
    (images / "sources").mkdir(parents=True, exist_ok=True)
    with tarfile.open(images / "sources/pkg-1.0.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("pkg-1.0/pkg.py")
        member.size = len(code)
        tar.addfile(member, io.BytesIO(code.encode()))


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., list[ImageRecord]]:
    """Runs the step on rows, as the shard `name`, beside the shards before it."""
    write_sdist(tmp_path / "images", CODE)

    def run(rows: list[Instance], name: str = "a", only: list[str] | None = None) -> list[ImageRecord]:
        write_jsonl(tmp_path / "rows.jsonl", rows)
        output, work = tmp_path / f"{name}.images.jsonl", tmp_path / "work"
        layers.main(
            only or [row.instance_id for row in rows], tmp_path / "rows.jsonl", tmp_path / "images", work / name,
            output, known=work,
        )  # fmt: skip
        return read_jsonl(output, ImageRecord)

    return run


def built(images: Path, records: list[ImageRecord]) -> dict[str, tuple[int, int]]:
    """Inode and time of each layer: another of either is another build."""
    states = {record.instance_id: (images / record.file).stat() for record in records}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in states.items()}


def test_only_what_is_missing_changed_or_of_another_content_is_built(shard, tmp_path: Path):
    images = tmp_path / "images"
    rows = [instance(name, bug) for name, bug in zip(NAMES, CODE.splitlines(), strict=True)]
    records = shard(rows, only=NAMES[:1]) + shard(rows)[1:]  # the first time it was killed after one
    for row, record, bug in zip(rows, records, CODE.splitlines(), strict=True):
        layer = image_files(images, row)[1]
        assert (record.outcome, record.instance_id, images / record.file) == ("built", row.instance_id, layer)
        assert (record.sha256, record.bytes) == (sha256_file(layer), layer.stat().st_size) and record.seconds > 0
        assert layer_file(layer, "pkg.py") == CODE.replace(bug, f"{bug}0")
    before = built(images, records)
    assert shard(rows) == records and built(images, records) == before
    assert shard(rows, "another-run") == records and built(images, records) == before

    edited = [rows[0].model_copy(update={"bug_patch": rows[1].bug_patch}), *rows[1:]]
    again = shard(edited)
    assert again[1:] == records[1:] and again[0].file != records[0].file
    assert built(images, [*records, *again[1:]]) == before, "the former layer, too: another run may have it"

    (images / records[1].file).unlink()
    (images / records[2].file).write_bytes(b"half of it")
    assert [one.sha256 for one in shard(rows)] == [one.sha256 for one in records]
    after = built(images, records)
    assert [after[name] == before[name] for name in NAMES] == [True, False, False]


def test_another_source_of_the_same_name_makes_all_layers_again(shard, tmp_path: Path):
    rows = [instance(NAMES[0], "A = 1")]
    former = shard(rows)
    write_sdist(tmp_path / "images", f"{CODE}D = 4\n")
    assert former != shard(rows)
    assert layer_file(image_files(tmp_path / "images", rows[0])[1], "pkg.py").endswith("D = 4\n")


def test_an_instance_that_cannot_be_built_is_a_record_and_the_others_are_built(shard, tmp_path: Path):
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "pkg.py").write_text(CODE)
    git = ["git", "-C", str(origin), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "base"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    mirror.main(str(origin), tmp_path / "images/mirrors/own__pkg.git")
    published = {"source": "git:https://github.com/own/pkg", "bug_patch": ""}
    absent = "0" * 39 + "1"
    rows = [
        instance("own__pkg-1", "", **published, base_commit=head),
        instance("own__pkg-2", "", **published, base_commit=absent),
        instance("pkg-1.0.eval-000", "", bug_patch=unified_patch("pkg.py", "not it\n", "else\n")),
        instance("pkg-1.0.eval-001", "A = 1"),
    ]
    records = shard(rows)
    assert [one.outcome for one in records] == ["built", "missing", "missing", "built"]
    assert f"no commit {absent}" in records[1].reason and "its bug" in records[2].reason
    assert records[1].file == "" and len(list((tmp_path / "images/instances").iterdir())) == 2
    ledger = [
        ledger_row(row, tmp_path / "images", GradingSettings(), record)
        for row, record in zip(rows[1:3], records[1:3], strict=True)
    ]
    assert [(row.passed, row.gold_outcome, row.environment) for row in ledger] == [
        (False, "environment_failure", "e")
    ] * 2
    assert f"no commit {absent}" in ledger[0].reason


def test_the_gate_refuses_a_layer_that_is_gone_or_another_than_was_built(shard, tmp_path: Path):
    images, row = tmp_path / "images", instance(NAMES[0], "A = 1")
    [record] = shard([row])
    (images / "envs").mkdir()
    (images / "envs/e.sif").touch()
    (images / record.file).write_bytes(b"another run's")
    with pytest.raises(SwedagError, match=rf"not the file that was built; .* names {row.instance_id}"):
        ledger_row(row, images, GradingSettings(), record)
    (images / record.file).unlink()
    with pytest.raises(SwedagError, match=r"\.sqsh: no such file; .* Delete the shard-<n>\.images\.jsonl"):
        ledger_row(row, images, GradingSettings(), record)


def test_what_no_instance_is_to_blame_for_stops_the_shard(shard, tmp_path: Path):
    with pytest.raises(SwedagError, match=r"rows\.jsonl: no instance nobody-1"):
        shard([instance(NAMES[0], "A = 1")], only=["nobody-1"])
    with pytest.raises(SwedagError, match=r"other-1\.0\.tar\.gz: no such file"):
        shard([instance(NAMES[0], "A = 1", source="sdist:other==1.0")])
