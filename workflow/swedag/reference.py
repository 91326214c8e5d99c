"""The paper's values beside ours: cells of the tables in config/reference, chosen by the settings of a table or figure.

In: `config/reference/<file>.csv` and a `Reference`. Out: numbers as the paper prints them (percent stays percent).
"""

import csv
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from swedag.errors import SwedagError


class Reference(BaseModel):
    """Which cells of which of the paper's tables stand beside ours."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(description="A table in config/reference, without .csv")
    where: dict[str, str] = Field({}, description="Column → value that every row to be used must have")
    rows: list[dict[str, str]] = Field([], description="The same for each set, in the order of `sets`")
    columns: dict[str, str] = Field(description="Column of ours → column of the paper's table")
    label: str = Field("paper", description="How a figure's legend calls it")

    def selection(self, position: int) -> dict[str, str]:
        """Column → value of the rows that belong to the set at `position`."""
        return self.where | (self.rows[position] if self.rows else {})


def ranked_successes(reference: Reference | None, table: "ReferenceTable | None", position: int) -> list[float]:
    """The paper's numbers of resolved attempts by rank, 1 first, of the set at `position`; none without a table."""
    if table is None or reference is None:
        return []
    return table.series(reference.selection(position), "rank", reference.columns["resolved"])


class ReferenceTable:
    """A table of the paper, read once; `cells` looks values up."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SwedagError(f"{path}: no such file; `reference.file` must name a table in config/reference")
        with path.open(newline="") as stream:
            self.path, self.rows = path, list(csv.DictReader(stream))

    def cells(self, selection: dict[str, str], column: str) -> float | None:
        """The one cell of `column` in the row that `selection` names; None where the paper leaves it empty."""
        for name in [*selection, column]:
            if name not in self.rows[0]:
                raise SwedagError(f"{self.path}: no column {name!r}; it has {', '.join(self.rows[0])}")
        found = [row for row in self.rows if all(row[name] == value for name, value in selection.items())]
        if len(found) != 1:
            chosen = ", ".join(f"{name}={value}" for name, value in selection.items()) or "no selection"
            raise SwedagError(
                f"{self.path}: {len(found)} rows match {chosen}; `reference` must name exactly one per set"
            )
        return float(found[0][column]) if found[0][column] else None

    def series(self, selection: dict[str, str], index: str, column: str) -> list[float]:
        """The cells of `column` where `index` is 1, 2, … as far as there are such rows."""
        values: list[float] = []
        while self.has(place := selection | {index: str(len(values) + 1)}):
            values.append(self.cells(place, column) or 0.0)
        return values

    def has(self, selection: dict[str, str]) -> bool:
        return any(all(row.get(name) == value for name, value in selection.items()) for row in self.rows)


def open_reference(reference: Reference | None, paths: list[Path]) -> ReferenceTable | None:
    """The table that `reference` names among `paths`; None where there is no reference."""
    if reference is None:
        return None
    for path in paths:
        if path.stem == reference.file:
            return ReferenceTable(path)
    raise SwedagError(f"reference {reference.file!r}: --references does not have {reference.file}.csv")
