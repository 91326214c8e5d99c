"""The sums over ledger rows, missing images among them."""

import json
from pathlib import Path

import pytest

from swedag.errors import SwedagError
from swedag.grading.gate import LedgerRow
from swedag.images import summary


def row(instance_id: str, size: int, **others) -> LedgerRow:
    values = {"environment": "e", "gold_outcome": "resolved", "empty_outcome": "unresolved", "passed": True} | others
    return LedgerRow(instance_id=instance_id, bytes=size, inodes=10, apptainer="apptainer version 1.4.5", **values)


def test_bytes_are_counted_per_added_instance():
    missing = {"gold_outcome": "environment_failure", "empty_outcome": "environment_failure", "passed": False}
    rows = [row("a", 1_000_000), row("b", 3_000_000), row("c", 0, **missing)]
    table = summary.table(rows, {"e": 80_000_000}, {"a": 1.0, "b": 2.0, "c": None})
    cells = [list(column.cells)[-1] for column in table.columns]
    assert cells == [
        "all", "3 (1 missing)", "2", "80.00", "4.00", "2.00", "3.00", "10", "1.5", "164", "5,200",
    ]  # fmt: skip


def test_csv_has_a_row_per_instance_with_its_build_seconds(tmp_path: Path):
    (tmp_path / "images/instances").mkdir(parents=True)
    (tmp_path / "images/instances/a.json").write_text(row("a", 5).model_dump_json())
    (tmp_path / "benchmarks/instances").mkdir(parents=True)
    (tmp_path / "benchmarks/instances/a.jsonl").write_text(json.dumps({"s": 2.5}) + "\n")
    summary.main(tmp_path / "images", None, tmp_path / "benchmarks", tmp_path / "out.csv")
    header, line = (tmp_path / "out.csv").read_text().splitlines()
    assert header.split(",")[0] == "instance_id" and header.endswith(",build_seconds")
    assert line.startswith("a,") and line.endswith(",2.5")


def test_what_is_no_ledger_row_is_named(tmp_path: Path):
    with pytest.raises(SwedagError, match="no ledger row"):
        summary.main(tmp_path, None, tmp_path, None)
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/a.json").write_text("{}")
    with pytest.raises(SwedagError, match=r"a\.json: not a ledger row"):
        summary.main(tmp_path, None, tmp_path, None)
