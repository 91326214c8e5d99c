"""The sums over ledger rows of layers and of published images, missing ones among them."""

import csv
from pathlib import Path

import pytest

from swedag.artifacts import write_jsonl
from swedag.errors import SwedagError
from swedag.grading.gate import LedgerRow
from swedag.images import summary
from swedag.images.record import ImageRecord


def row(instance_id: str, size: int, **others) -> LedgerRow:
    values = {"environment": "e", "gold_outcome": "resolved", "empty_outcome": "unresolved", "passed": True} | others
    content = f"content of {instance_id}" if size else ""
    return LedgerRow(
        instance_id=instance_id, layer_sha256=content, bytes=size, inodes=10, apptainer="apptainer version 1.4.5",
        **values,
    )  # fmt: skip


MISSING = {"gold_outcome": "environment_failure", "empty_outcome": "environment_failure", "passed": False}


def test_bytes_are_counted_per_added_instance():
    rows = [row("a", 1_000_000), row("b", 3_000_000), row("c", 0, **MISSING)]
    table = summary.table(rows, {"e": 80_000_000}, {"content of a": 1.0, "content of b": 2.0})
    cells = [list(column.cells)[-1] for column in table.columns]
    assert cells == [
        "all", "3 (1 missing)", "2", "80.00", "4.00", "2.00", "3.00", "10", "1.5", "164", "5,200",
    ]  # fmt: skip


def shard(path: Path, rows: list[LedgerRow], outcome: str, seconds: float) -> None:
    write_jsonl(path.with_name("shard-0.gates.jsonl"), rows)
    records = [
        ImageRecord(instance_id=one.instance_id, outcome=outcome, sha256=one.layer_sha256, seconds=seconds)
        for one in rows
    ]
    write_jsonl(path, records)


def test_layers_and_published_images_of_all_runs_are_counted_each_once(tmp_path: Path, capsys):
    results = tmp_path / "results"
    built = [row("a", 5), row("b", 7)]
    whole = [row("c", 2_000_000_000, environment="", image="docker.io/x/c"), row("d", 0, environment="", **MISSING)]
    shard(results / "mine/images/built/shard-0.images.jsonl", built, "built", 2.5)
    shard(results / "other/images/built/shard-0.images.jsonl", built[:1], "built", 2.5)
    shard(results / "mine/images/pulled/shard-0.images.jsonl", whole, "converted", 130.0)
    summary.main(results, None, tmp_path / "out.csv")
    assert "(1" in capsys.readouterr().out
    with (tmp_path / "out.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["instance_id"], line["bytes"], line["build_seconds"]) for line in lines] == [
        ("a", "5", "2.5"), ("b", "7", "2.5"), ("c", "2000000000", "130.0"), ("d", "0", ""),
    ]  # fmt: skip


def test_what_is_no_ledger_row_is_named(tmp_path: Path):
    with pytest.raises(SwedagError, match="no ledger row"):
        summary.main(tmp_path, None, None)
    path = tmp_path / "mine/images/built/shard-0.gates.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(SwedagError, match=r"shard-0\.gates\.jsonl:1: instance_id"):
        summary.main(tmp_path, None, None)
