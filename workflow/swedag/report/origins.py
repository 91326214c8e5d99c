"""What each row of a table was made of, for the report: the trees that `swedag lineage TABLE ROW` prints.

In: a table's CSV, Snakemake's records and the files that they name. Out: one tree for all rows made of the same files.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from swedag.provenance.lineage import as_text, of_row
from swedag.provenance.records import Lineage, upstream


@dataclass(frozen=True)
class Origin:
    """The rows (counted from 1, with their first cells) of a table that are made of the same files."""

    rows: list[int]
    labels: list[str]
    files: int
    tree: str


def origins(table: Path, lineage: Lineage) -> list[Origin]:
    """In the order of the rows; none where Snakemake has no record of making the table."""
    path, root = table.resolve(), lineage.root.resolve()
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    if name not in lineage.records:
        return []
    top = lineage.node(name)
    with table.open(newline="") as stream:
        labels = [cells[0] for cells in list(csv.reader(stream))[1:]]
    found: dict[tuple[str, ...], Origin] = {}
    for number, label in enumerate(labels, 1):
        made = of_row(top, table, str(number))
        files = tuple(node.path for node in made.inputs)
        if files not in found:
            found[files] = Origin([], [], len(upstream([made])), as_text(made))
        found[files].rows.append(number)
        if label not in found[files].labels:
            found[files].labels.append(label)
    return list(found.values())
