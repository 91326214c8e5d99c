"""Tables of training sets: what each filter left of what went in; where rollouts are from; how long they are.

In: data cards, as `swedag training-set` writes them. Out: one row per set, per repository (the paper's Table 7), or per
set and verdict (Table 8).
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from swedag.errors import SwedagError
from swedag.reference import ReferenceTable
from swedag.tables.document import Cell, Document
from swedag.tables.settings import LengthsTable, SetsTable, SourcesTable

# In the order in which the filters apply; a card has those that were used.
FILTERS = {
    "rollouts": "rollouts in",
    "resolved": "resolved",
    "max_tokens": "short enough",
    "distinct_patches": "distinct patches",
    "one_per_instance": "one per instance",
    "cap": "within the cap",
    "fraction": "after the cut",
}


class Card(BaseModel):
    """What this table reads of a data card."""

    model_config = ConfigDict(extra="ignore")

    name: str
    left_after: dict[str, int]
    instances: int
    repositories: dict[str, int] = {}
    tokens_resolved: dict[str, float] = {}
    tokens_unresolved: dict[str, float] = {}
    messages_resolved: dict[str, float] = {}
    messages_unresolved: dict[str, float] = {}
    messages: dict[str, float] = {}


def read_cards(paths: list[Path]) -> dict[str, Card]:
    cards = {}
    for path in paths:
        if not path.is_file():
            raise SwedagError(f"{path}: no such file; a table of training sets needs their data cards")
        try:
            card = Card.model_validate_json(path.read_text())
        except ValidationError as error:
            first = error.errors()[0]
            raise SwedagError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        cards[path.name.removesuffix(".card.json")] = card
    return cards


def training_sets(settings: SetsTable, cards: dict[str, Card]) -> Document:
    """`cards` by training set. Filters that no set uses have no column for readers, but stay in the CSV."""
    rows: list[dict[str, Cell]] = []
    for name in settings.training_sets:
        card = cards[name]
        left = [card.left_after[step] for step in FILTERS if step in card.left_after]
        filters: dict[str, Cell] = {step: card.left_after.get(step) for step in FILTERS}
        rows.append(
            {"training_set": name}
            | filters
            | {
                "rows": left[-1],
                "instances": card.instances,
                "repositories": len(card.repositories),
                "median_tokens": card.tokens_resolved.get("p50"),
                "mean_messages": card.messages.get("mean"),
            }
        )
    used = [step for step in FILTERS if any(row[step] is not None for row in rows)]
    header = ["training set", *[FILTERS[step] for step in used], "rows", "instances", "repositories"]
    shown = [["training_set", *used, "rows", "instances", "repositories"]] * len(rows)
    lines = [["" if row[key] is None else str(row[key]) for key in keys] for row, keys in zip(rows, shown, strict=True)]
    notes = ["Each column counts what was left after that filter, from left to right; an empty cell: not used."]
    return Document(settings.caption, rows, header, lines, notes)


def sources(settings: SourcesTable, cards: dict[str, Card], reference: ReferenceTable | None) -> Document:
    """Table 7: repositories by rollouts of the first set, most first; those that only the paper has, too."""
    names, theirs = settings.training_sets, settings.reference.columns if settings.reference else {}
    known = {row["repo"] for row in reference.rows} if reference else set()
    repos = known.union(*(cards[name].repositories for name in names))
    rows: list[dict[str, Cell]] = []
    for repo in sorted(repos, key=lambda one: (-cards[names[0]].repositories.get(one, 0), one.lower())):
        row: dict[str, Cell] = {"repo": repo} | {name: cards[name].repositories.get(repo, 0) for name in names}
        for name, column in theirs.items():
            row[f"paper_{name}"] = reference.cells({"repo": repo}, column) if reference and repo in known else None
        rows.append(row)
    if not rows:
        raise SwedagError(f"training sets {', '.join(names)}: their cards name no repository")
    header = ["repository", *names, *(f"paper: {column}" for column in theirs.values())]
    total = ["all", *(_count(sum(float(row[key] or 0) for row in rows)) for key in list(rows[0])[1:])]
    lines = [[str(row["repo"]), *(_count(value) for value in list(row.values())[1:])] for row in rows]
    return Document(settings.caption, rows, header, [*lines, total])


LENGTHS = ("count", "mean", "std", "min", "max", "p5", "p10", "p25", "p50", "p75", "p90", "p95")


def lengths(settings: LengthsTable, cards: dict[str, Card], reference: ReferenceTable | None) -> Document:
    """Table 8: messages and tokens of the rollouts that a set was drawn from, before any filter."""
    rows: list[dict[str, Cell]] = []
    theirs = settings.reference.columns if reference and settings.reference else {}
    for name in settings.training_sets:
        card = cards[name]
        found = {
            ("messages", "no"): card.messages_unresolved,
            ("messages", "yes"): card.messages_resolved,
            ("tokens", "no"): card.tokens_unresolved,
            ("tokens", "yes"): card.tokens_resolved,
        }
        for (quantity, resolved), values in found.items():
            row: dict[str, Cell] = {"training_set": name, "quantity": quantity, "resolved": resolved}
            row |= {key: values.get(key) for key in LENGTHS}
            for ours, column in theirs.items():
                where = {"quantity": quantity, "resolved": resolved}
                row[f"paper_{ours}"] = reference.cells(where, column) if reference else None
            rows.append(row)
    header = ["training set", "quantity", "resolved", *LENGTHS, *(f"paper: {column}" for column in theirs.values())]
    lines = [[str(cell) if isinstance(cell, str) else _length(cell) for cell in row.values()] for row in rows]
    return Document(settings.caption, rows, header, lines)


def _count(value: Cell) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else ""


def _length(value: float | None) -> str:
    """Whole numbers as they are, means to one digit."""
    return "" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
