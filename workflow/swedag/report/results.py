"""Tables and figures of a run as the report shows them, and the sentence that stands above all.

In: tables/<name>.csv with .md and .tex beside it, figures/<name>.svg with .png. Out: plain data for the template.
"""

import csv
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from swedag.errors import SwedagError

INTERVAL = re.compile(r"^(?P<value>[^\[]+) (?P<interval>\[.*\])$")


@dataclass(frozen=True)
class Shown:
    """A table: cells are (value, interval or ""), `files` what can be downloaded."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[tuple[str, str]]]
    notes: list[str]
    files: list[str]


@dataclass(frozen=True)
class Headline:
    """First against last policy of a block of an iterations table; rates in percent, the difference in points."""

    first: dict[str, str]
    last: dict[str, str]
    points: list[dict[str, float | str]]


def read_table(path: Path) -> Shown:
    """A table from the Markdown beside its CSV, which is swedag's own and therefore regular."""
    markdown = path.with_suffix(".md")
    if not markdown.is_file():
        raise SwedagError(f"{markdown}: no such file; a table's .csv, .md and .tex stand side by side")
    lines = markdown.read_text(encoding="utf-8").splitlines()
    grid = [_cells(line) for line in lines if line.startswith("|")]
    caption = next((line.strip("*") for line in lines if line.startswith("**")), path.stem)
    notes = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    files = [f"{path.stem}{suffix}" for suffix in (".csv", ".md", ".tex") if path.with_suffix(suffix).is_file()]
    return Shown(path.stem, caption, grid[0], [[_parts(cell) for cell in row] for row in grid[2:]], notes, files)


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _parts(cell: str) -> tuple[str, str]:
    found = INTERVAL.match(cell)
    return (found["value"], found["interval"]) if found else (cell, "")


def headline(paths: list[Path], wanted: str) -> Headline | None:
    """From the last block of the table called `wanted`, or else of the first one that compares policies.

    The rows of a block are compared with its first; only it has no difference to itself.
    """
    for path in paths:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        if rows and "first_difference" in rows[0] and wanted in ("", path.stem):
            first = max(place for place, row in enumerate(rows) if not row["first_difference"])
            rows = rows[first:]
            points: list[dict[str, float | str]] = [
                {"label": row["label"]} | {end: 100 * float(row[f"resolve_{end}"]) for end in ("rate", "low", "high")}
                for row in rows
            ]
            return Headline(rows[0], rows[-1], points)
    if wanted:
        raise SwedagError(f"report.headline: no table of policies is called {wanted!r}")
    return None


def copy(paths: list[Path], folder: Path) -> None:
    """Put files, and those with the same name but another ending, into the report."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        for suffix in (".csv", ".md", ".tex", ".svg", ".png"):
            if path.with_suffix(suffix).is_file():
                shutil.copyfile(path.with_suffix(suffix), folder / f"{path.stem}{suffix}")
