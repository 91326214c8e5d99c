"""Exclusion lists: ids that a dataset leaves out, each with its reason, chosen by name in the config.

In: `config/exclusions/<name>.csv` with the columns instance_id and reason. Ids are matched in lower case.
"""

import csv
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swedag.errors import SwedagError

FOLDER = Path("config/exclusions")


@dataclass(frozen=True)
class Exclusion:
    """Why an id is left out, and the list that says so."""

    list_name: str
    reason: str


def exclusion_file(name: str, folder: Path = FOLDER) -> Path:
    """The file of a list; SwedagError names the lists that there are."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        known = sorted(found.stem for found in folder.glob("*.csv"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        raise SwedagError(f"exclude: no list is called {name!r} ({path} does not exist; {hint})")
    return path


def read_exclusions(paths: Iterable[Path]) -> dict[str, Exclusion]:
    """Exclusions by lower-cased id; the first list that names an id gives its reason."""
    found: dict[str, Exclusion] = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            if not {"instance_id", "reason"} <= set(rows.fieldnames or []):
                raise SwedagError(f"{path}: the first line must name the columns instance_id and reason")
            for row in rows:
                if not row["instance_id"] or not row["reason"]:
                    raise SwedagError(f"{path}:{rows.line_num}: instance_id or reason is empty")
                found.setdefault(row["instance_id"].lower(), Exclusion(path.stem, row["reason"]))
    return found
