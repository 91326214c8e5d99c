"""The attempts table as it is read: one row per (instance, run), checked cell by cell.

In: any CSV with `instance_id, run, resolved`; the other columns that swedag writes are read where they are present.
Out: a `Table` of `Attempt`s grouped by instance, sorted by instance_id and run, so that row order never matters.
"""

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swedag.errors import SwedagError
from swedag.grades import NO_VERDICT

if TYPE_CHECKING:
    import _csv

Missing = Literal["fail", "exclude"]
REQUIRED = ("instance_id", "run", "resolved")


@dataclass(frozen=True, slots=True)
class Attempt:
    """`resolved` None means no verdict; `score` None means that the verifier gave none. Absent columns read as None."""

    instance_id: str
    run: int
    resolved: bool | None
    score: float | None = None
    outcome: str = ""
    official_resolved: bool | None = None
    exit: str = ""
    turns: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    empty_patch: bool | None = None
    stuck: bool | None = None
    repeated: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Attempts by instance, both sorted. `scored` tells whether there was a score column at all."""

    path: Path
    instances: dict[str, list[Attempt]]
    scored: bool

    @property
    def attempts(self) -> list[Attempt]:
        return [attempt for group in self.instances.values() for attempt in group]


def read_attempts(path: Path) -> Table:
    """The table at `path`; SwedagError names the file, the line and the column of the first bad cell."""
    if not path.is_file():
        raise SwedagError(f"{path}: no such file; give an attempts CSV (results/<run>/attempts/<set>.csv)")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return _parse(path, csv.reader(stream, strict=True))
    except UnicodeDecodeError as error:
        raise SwedagError(f"{path}: byte {error.start} is not UTF-8; save the table as UTF-8 text") from error


def _parse(path: Path, lines: "_csv.Reader") -> Table:
    seen: dict[tuple[str, int], int] = {}
    instances: dict[str, list[Attempt]] = {}
    try:
        header = [name.strip() for name in next(lines, [])]
        _check_header(path, header)
        for cells in lines:
            if not cells:
                continue
            place = f"{path}:{lines.line_num}"
            if len(cells) != len(header):
                raise SwedagError(f"{place}: {len(cells)} cells where the header has {len(header)} columns")
            attempt = _attempt(place, dict(zip(header, cells, strict=True)))
            key = (attempt.instance_id, attempt.run)
            if key in seen:
                raise SwedagError(
                    f"{place}: run: instance {key[0]!r} has run {key[1]} already, in line {seen[key]}; "
                    "each row must be another attempt"
                )
            seen[key] = lines.line_num
            instances.setdefault(attempt.instance_id, []).append(attempt)
    except csv.Error as error:
        raise SwedagError(f"{path}:{lines.line_num}: not CSV: {error}") from error
    if not instances:
        raise SwedagError(f"{path}: no attempts below the header; a rate of nothing is not a number")
    ordered = {name: sorted(instances[name], key=lambda attempt: attempt.run) for name in sorted(instances)}
    return Table(path, ordered, "score" in header)


def _check_header(path: Path, header: list[str]) -> None:
    absent = [name for name in REQUIRED if name not in header]
    if absent:
        raise SwedagError(
            f"{path}:1: column {absent[0]!r} is missing; found {', '.join(header) or 'an empty file'}; "
            f"needed are {', '.join(REQUIRED)} and optionally score, outcome"
        )
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise SwedagError(f"{path}:1: column {doubled[0]!r} stands twice in the header")


def _attempt(place: str, cells: dict[str, str]) -> Attempt:
    instance_id = cells["instance_id"].strip()
    if not instance_id:
        raise SwedagError(f"{place}: instance_id: empty")
    resolved = _flag(place, "resolved", cells["resolved"])
    outcome = cells.get("outcome", "").strip()
    if outcome in NO_VERDICT and resolved is not None:
        raise SwedagError(f"{place}: resolved: {cells['resolved']!r} although the outcome is {outcome}; leave it empty")
    return Attempt(
        instance_id=instance_id,
        run=_run(place, cells["run"]),
        resolved=resolved,
        score=_number(place, "score", cells.get("score", "")),
        outcome=outcome,
        official_resolved=_flag(place, "official_resolved", cells.get("official_resolved", "")),
        exit=cells.get("exit", "").strip(),
        turns=_number(place, "turns", cells.get("turns", "")),
        prompt_tokens=_number(place, "prompt_tokens", cells.get("prompt_tokens", "")),
        completion_tokens=_number(place, "completion_tokens", cells.get("completion_tokens", "")),
        empty_patch=_flag(place, "empty_patch", cells.get("empty_patch", "")),
        stuck=_flag(place, "stuck", cells.get("stuck", "")),
        repeated=_flag(place, "repeated", cells.get("repeated", "")),
    )


def _flag(place: str, column: str, cell: str) -> bool | None:
    values = {"1": True, "0": False, "": None}
    if cell.strip() not in values:
        raise SwedagError(f"{place}: {column}: {cell!r} is not 1, 0 or empty (no verdict); write whole numbers")
    return values[cell.strip()]


def _run(place: str, cell: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", cell.strip()):
        raise SwedagError(f"{place}: run: {cell!r:.80} is not a whole number from 0 up")
    return int(cell)


def _number(place: str, column: str, cell: str) -> float | None:
    if not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SwedagError(f"{place}: {column}: {cell!r} is not a finite number; leave an absent one empty")
    return value
