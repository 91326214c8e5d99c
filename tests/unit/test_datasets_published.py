"""Must show 4: every real row loads; each kind of broken row is named with its line, and costs no other row."""

import json
from pathlib import Path

import pytest

from swedag.datasets.published import read_published
from swedag.errors import SwedagError

DATA = Path(__file__).parents[1] / "data/instances"
FILES = sorted(DATA.glob("*.jsonl"))
LIMIT = 10_000_000


def real_rows() -> list[dict]:
    return [json.loads(line) for line in (DATA / "swe_gym_moto.jsonl").read_text().splitlines()]


def written(path: Path, lines: list[bytes | str | dict]) -> Path:
    encoded = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in encoded) + b"\n")
    return path


def read(tmp_path, *lines, limit=LIMIT):
    return read_published(written(tmp_path / "rows.jsonl", list(lines)), limit)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_real_row_loads(path):
    reading = read_published(path, LIMIT)
    assert not reading.faults
    lines = path.read_text().splitlines()
    assert [line for line, _ in reading.rows] == list(range(1, len(lines) + 1))
    for (_, row), line in zip(reading.rows, lines, strict=True):
        published = json.loads(line)
        for field in ("instance_id", "repo", "base_commit", "patch", "test_patch", "problem_statement", "hints_text"):
            assert getattr(row, field) == published[field]
        assert published["FAIL_TO_PASS"] == row.FAIL_TO_PASS and published["PASS_TO_PASS"] == row.PASS_TO_PASS
        assert row.created_at == published["created_at"].replace(" ", "T").removesuffix("Z") + "Z"


def test_texts_keep_their_line_ends():
    crlf = [
        row
        for _, row in read_published(DATA / "swebench_verified_5.jsonl", LIMIT).rows
        if "\r\n" in row.problem_statement
    ]
    assert {row.instance_id for row in crlf} >= {"sphinx-doc__sphinx-8595", "sympy__sympy-20916"}


@pytest.mark.parametrize(
    "form", [list, json.dumps, str, lambda tests: f" {tests!r}\n"], ids=["list", "json", "python", "padded"]
)
def test_test_lists_come_in_three_forms(tmp_path, form):
    tests = ['tests/test_a.py::test_b[it\'s-"x"]', "test_c (d.E)", "tests/test_é.py::f[a\\n]"]
    row = real_rows()[0] | {"FAIL_TO_PASS": form(tests), "PASS_TO_PASS": form([])}
    ((_, found),) = read(tmp_path, row).rows
    assert tests == found.FAIL_TO_PASS and found.PASS_TO_PASS == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2024-02-19 20:29:03", "2024-02-19T20:29:03Z"),
        ("2023-08-11T14:50:15Z", "2023-08-11T14:50:15Z"),
        ("2023-08-11T16:50:15+02:00", "2023-08-11T14:50:15Z"),
        ("", ""),
        (None, ""),
    ],
)
def test_created_at_comes_in_several_forms(tmp_path, given, kept):
    ((_, row),) = read(tmp_path, real_rows()[0] | {"created_at": given}).rows
    assert row.created_at == kept


def torn(row):
    return json.dumps(row)[:400]


def changed(**values):
    return lambda row: row | values


def without(field):
    return lambda row: {key: value for key, value in row.items() if key != field}


BROKEN = {
    "torn": (torn, "not JSON, perhaps cut off: Unterminated string"),
    "missing field": (without("base_commit"), "base_commit: is missing"),
    "two missing fields": (lambda row: without("patch")(without("repo")(row)), "repo: is missing; patch: is missing"),
    "wrong type": (changed(version=5.0), "version: Input should be a valid string (found 5.0)"),
    "test list of wrong type": (changed(FAIL_TO_PASS={"a": 1}), "FAIL_TO_PASS: Input should be a valid list (found dict)"),
    "test of wrong type": (changed(PASS_TO_PASS=["a", 3]), "PASS_TO_PASS.1: Input should be a valid string (found 3)"),
    "test list that is none": (changed(FAIL_TO_PASS="tests/test_a.py"), "FAIL_TO_PASS: neither a list nor the text of one"),
    "no failing test": (changed(FAIL_TO_PASS="[]"), "FAIL_TO_PASS: List should have at least 1 item"),
    "NUL": (changed(patch="diff --git a/x b/x\0"), "patch: holds a NUL character at position 19"),
    "NUL in a test": (changed(PASS_TO_PASS=["a\0b"]), "PASS_TO_PASS.0: holds a NUL character"),
    "raw NUL": (lambda row: json.dumps(row).encode().replace(b"moto", b"mo\0to", 1), "not JSON, perhaps cut off: Invalid control"),
    "lone surrogate": (changed(hints_text="\ud800"), "hints_text: holds half a character"),
    "other encoding": (lambda row: json.dumps(row).encode().replace(b"moto", b"m\xf6to", 1), "not UTF-8: byte 0xf6"),
    "UTF-16": (lambda row: json.dumps(row).encode("utf-16"), "not UTF-8: byte 0xff at position 1"),
    "50 MB patch": (lambda row: row | {"patch": row["patch"] + "+" * 50_000_000}, "patch: 50000"),
    "empty patch": (changed(patch=""), "patch: String should have at least 1 character"),
    "a path as id": (changed(instance_id="../../etc/passwd"), "instance_id: String should match pattern"),
    "no commit": (changed(base_commit="main"), "base_commit: String should match pattern"),
    "a date that is none": (changed(created_at="yesterday"), "created_at: no date and time: 'yesterday'"),
    "not an object": (lambda row: "[1, 2]", "not a JSON object but list"),
    "deeply nested": (lambda row: "[" * 200_000, "not JSON that can be read"),
    "not JSON": (lambda row: "instance_id,repo", "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named_and_the_others_are_used(tmp_path, name):
    first, second, third = real_rows()
    breaks, message = BROKEN[name]
    reading = read(tmp_path, first, breaks(second), third)
    assert [row.instance_id for _, row in reading.rows] == [first["instance_id"], third["instance_id"]]
    (fault,) = reading.faults
    assert (fault.line, fault.kind) == (2, "malformed")
    assert fault.detail.startswith(message) and len(fault.detail) < 300


def test_what_is_told_of_a_broken_row_holds_its_id_if_that_can_be_read(tmp_path):
    first, second, _ = real_rows()
    reading = read(tmp_path, without("patch")(first), torn(second), changed(instance_id=["x"])(second))
    assert [fault.instance_id for fault in reading.faults] == [first["instance_id"], "", ""]


def test_ids_that_differ_in_case_alone_are_one(tmp_path):
    first, second, _ = real_rows()
    reading = read(tmp_path, first, second, first | {"instance_id": first["instance_id"].upper()})
    assert [line for line, _ in reading.rows] == [1, 2]
    (fault,) = reading.faults
    assert (fault.line, fault.kind, fault.detail) == (3, "duplicate", "line 1 has the same instance_id")


def test_a_byte_order_mark_and_empty_lines_do_not_matter(tmp_path):
    first, second, _ = real_rows()
    reading = read(tmp_path, b"\xef\xbb\xbf" + json.dumps(first).encode(), "", "  ", second)
    assert not reading.faults and [line for line, _ in reading.rows] == [1, 4]


def test_the_longest_patch_is_a_setting(tmp_path):
    first, _, _ = real_rows()
    longest = max(len(first["patch"].encode()), len(first["test_patch"].encode()))
    assert not read(tmp_path, first, limit=longest).faults
    assert (
        f"{longest} bytes, more than max_patch_bytes ({longest - 1})"
        in read(tmp_path, first, limit=longest - 1).faults[0].detail
    )


def test_parquet_reads_like_jsonl(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    first, second, third = real_rows()
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.Table.from_pylist([first, second | {"base_commit": "main"}, third]), path)
    reading = read_published(path, LIMIT)
    assert [(line, row.instance_id) for line, row in reading.rows] == [
        (1, first["instance_id"]),
        (3, third["instance_id"]),
    ]
    assert [(fault.line, fault.instance_id) for fault in reading.faults] == [(2, second["instance_id"])]
    assert reading.rows[0][1] == read(tmp_path, first).rows[0][1]


@pytest.mark.parametrize("name", ["absent.jsonl", "torn.parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    if name == "torn.parquet":
        (tmp_path / name).write_bytes(b"PAR1 and no more")
    with pytest.raises(SwedagError, match=name):
        read_published(tmp_path / name, LIMIT)
