"""Rows of published datasets as they come: read line by line, checked, and brought into one form.

In: JSONL or parquet in the format of SWE-bench and SWE-Gym. Out: typed rows, and a fault for each that cannot be used,
with its line (JSONL) or row number (parquet), counted from 1. One bad row never takes the others with it.

What differs between publishers is made equal: FAIL_TO_PASS and PASS_TO_PASS come as lists, as JSON, or as the text of a
Python list; created_at as `2024-02-19 20:29:03` or `2023-08-11T14:50:15Z`. Texts stay as they are, CRLF included.
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from swedag.errors import SwedagError

BOM = b"\xef\xbb\xbf"
# An id names files, so it may hold nothing that a path gives a meaning to.
INSTANCE_ID = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$"


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"holds a NUL character at position {value.index(chr(0)) + 1}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character (a lone surrogate) at position {error.start + 1}") from None
    return value


def _tests(value: Any) -> Any:
    """A list, or its text in JSON or Python."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"neither a list nor the text of one: {value[:40]!r}") from None


def _moment(value: Any) -> Any:
    """ISO 8601 in UTC, to the second; what carries no time zone is UTC already."""
    if value in ("", None):
        return ""
    if not isinstance(value, str | datetime):
        return value
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"no date and time: {value!r:.40}") from None
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


Text = Annotated[str, AfterValidator(_text)]
Tests = Annotated[list[Text], BeforeValidator(_tests)]


class PublishedRow(BaseModel):
    """One row in the form of SWE-bench; further columns of a publisher are left aside."""

    model_config = ConfigDict(strict=True, frozen=True)

    instance_id: Annotated[str, Field(pattern=INSTANCE_ID, max_length=200)]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    base_commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    version: str = Field(pattern=r"^[\w.]+$")
    problem_statement: Text
    hints_text: Annotated[Text, BeforeValidator(lambda value: "" if value is None else value)] = ""
    created_at: Annotated[str, BeforeValidator(_moment)] = ""
    patch: Text = Field(min_length=1)
    test_patch: Text
    FAIL_TO_PASS: Tests = Field(min_length=1)
    PASS_TO_PASS: Tests


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used: where it stands, its id as far as that can be told, and why."""

    line: int
    instance_id: str
    kind: Literal["malformed", "duplicate"]
    detail: str


@dataclass(frozen=True)
class Reading:
    """Rows with their line numbers, in the file's order, and the faults."""

    path: Path
    rows: list[tuple[int, PublishedRow]]
    faults: list[Fault]


def read_published(path: Path, max_patch_bytes: int) -> Reading:
    """Every row of a JSONL or parquet file, a fault for each unusable or doubled one. No such file: SwedagError."""
    rows: list[tuple[int, PublishedRow]] = []
    faults: list[Fault] = []
    first_line: dict[str, int] = {}
    for line, found in _raw(path):
        row = _row(found, max_patch_bytes) if isinstance(found, dict) else found
        if isinstance(row, str):
            faults.append(Fault(line, _id_of(found), "malformed", row))
        elif (earlier := first_line.setdefault(row.instance_id.lower(), line)) != line:
            faults.append(Fault(line, row.instance_id, "duplicate", f"line {earlier} has the same instance_id"))
        else:
            rows.append((line, row))
    return Reading(path, rows, faults)


def _row(found: dict[str, Any], max_patch_bytes: int) -> PublishedRow | str:
    try:
        row = PublishedRow.model_validate(found)
    except ValidationError as error:
        return "; ".join(dict.fromkeys(_explained(problem) for problem in error.errors()))
    for field in ("patch", "test_patch"):
        size = len(getattr(row, field).encode())
        if size > max_patch_bytes:
            return f"{field}: {size} bytes, more than max_patch_bytes ({max_patch_bytes})"
    return row


def _explained(problem: Any) -> str:
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"{field}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    shown = f"{found!r:.60}" if isinstance(found, str | int | float | bool | None) else type(found).__name__
    return f"{field}: {message}" + ("" if problem["type"] == "value_error" else f" (found {shown})")


def _id_of(found: Any) -> str:
    value = found.get("instance_id") if isinstance(found, dict) else ""
    return f"{value:.80}" if isinstance(value, str) and value.isprintable() else ""


def _raw(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(number, row as it stands, or why it cannot be read); empty lines are passed over."""
    if not path.is_file():
        raise SwedagError(f"{path}: no such file; `source.path` must name a .jsonl or .parquet file")
    return _parquet(path) if path.suffix == ".parquet" else _jsonl(path)


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(BOM)
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        value = json.loads(line.decode().rstrip())
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}"
    except json.JSONDecodeError as error:
        return f"not JSON, perhaps cut off: {error.msg.removesuffix(' at')} at position {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        return f"not JSON that can be read: {error}"
    return value if isinstance(value, dict) else f"not a JSON object but {type(value).__name__}"


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=64) for row in batch.to_pylist())
            yield from enumerate(rows, 1)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SwedagError(f"{path}: not a readable parquet file: {error}") from error
