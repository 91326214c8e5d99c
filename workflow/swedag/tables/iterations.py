"""The table of policies: what each resolved out of how much, what failed and why, and whether it beats the others.

In: the attempts of each set. Out: one row per set; rates between 0 and 1 with 95 % bootstrap intervals over instances.
"""

from typing import get_args

from swedag.grades import NO_VERDICT, Outcome
from swedag.metrics.curves import counted, curve, differences
from swedag.metrics.intervals import mean
from swedag.metrics.paper import half_sample_deviation
from swedag.metrics.reading import Attempt, Table
from swedag.reference import ReferenceTable
from swedag.tables.document import Cell, Document, percent, with_interval
from swedag.tables.settings import IterationsTable

OUTCOMES: tuple[str, ...] = get_args(Outcome)
# Three ways to count the paper's "stuck in loop": by its scaffold's rules; by them but not where the patch is empty, as
# its script does; by its own words, the same action in the last three turns.
LOOPS = {
    "stuck_rate": "stuck, %",
    "stuck_with_patch_rate": "stuck, with a patch, %",
    "repeated_rate": "same action thrice, %",
}
TIERS = {
    "model_failures": "model failures",
    "environment_failure": "environment",
    "infrastructure_failure": "infrastructure",
}
RATES = ("resolve_rate", "half_sample_std", "empty_patch_rate", *LOOPS)


def iterations(settings: IterationsTable, tables: dict[str, Table], reference: ReferenceTable | None) -> Document:
    """`tables` by set. The paper's percentages become rates; its mean turns stay as they are."""
    rows = [
        {"label": label, "set": name} | row(tables[name], settings) | _paper(settings, reference, position)
        for position, (label, name) in enumerate(settings.named())
    ]
    for position, line in enumerate(rows):
        first = position - position % (settings.block or len(rows))
        for kind, other in (("previous", position - 1), ("first", first)):
            line |= _difference(kind, position, other if position > first else None, settings, tables)
    return Document(settings.caption, rows, *_readable(rows), _notes(rows, settings))


def row(table: Table, settings: IterationsTable) -> dict[str, Cell]:
    """Counts and rates of one set, without comparisons."""
    instances = counted(table, settings.missing)
    attempts = [attempt for group in instances.values() for attempt in group]
    point = curve(table, [1], missing=settings.missing, seed=settings.seed)[0]
    judged = [attempt for attempt in table.attempts if attempt.resolved is not None]
    touched = [attempt for attempt in attempts if not attempt.empty_patch]
    return {
        "instances": len(instances),
        "attempts": len(attempts),
        "resolved": sum(attempt.resolved is True for attempt in attempts),
        "resolve_rate": point["pass_at_k"],
        "resolve_low": point["pass_low"],
        "resolve_high": point["pass_high"],
        "half_sample_std": half_sample_deviation(sum(a.resolved is True for a in touched), len(touched), settings.seed),
        "model_failures": sum(attempt.resolved is False for attempt in judged),
        **{name: _count(table, name) for name in NO_VERDICT},
        **{f"outcome_{name}": _count(table, name) for name in OUTCOMES if name not in NO_VERDICT},
        "empty_patch_rate": _mean([float(a.empty_patch) for a in attempts if a.empty_patch is not None]),
        "stuck_rate": _mean([float(a.stuck) for a in attempts if a.stuck is not None]),
        "stuck_with_patch_rate": _mean([float(a.stuck and not a.empty_patch) for a in attempts if a.stuck is not None]),
        "repeated_rate": _mean([float(a.repeated) for a in attempts if a.repeated is not None]),
        "mean_turns": _mean([a.turns for a in attempts if a.turns is not None]),
        "mean_completion_tokens": _mean([a.completion_tokens for a in attempts if a.completion_tokens is not None]),
    }


def _count(table: Table, outcome: str) -> int:
    """A table without an outcome column knows only that there is no verdict: then it counts as infrastructure."""

    def named(attempt: Attempt) -> str:
        return attempt.outcome or ("infrastructure_failure" if attempt.resolved is None else "")

    return sum(named(attempt) == outcome for attempt in table.attempts)


def _mean(values: list[float]) -> float | None:
    return mean(values) if values else None


def _paper(settings: IterationsTable, table: ReferenceTable | None, position: int) -> dict[str, Cell]:
    if table is None or settings.reference is None:
        return {}
    cells: dict[str, Cell] = {}
    for ours, theirs in settings.reference.columns.items():
        value = table.cells(settings.reference.selection(position), theirs)
        cells[f"paper_{ours}"] = value / 100 if ours in RATES and value is not None else value
    return cells


def _difference(
    kind: str, position: int, other: int | None, settings: IterationsTable, tables: dict[str, Table]
) -> dict[str, Cell]:
    """Empty where there is nothing to compare with: in the first row of a block, or if the instances are others."""
    names = [f"{kind}_difference", f"{kind}_low", f"{kind}_high"]
    ours, theirs = tables[settings.sets[position]], tables[settings.sets[position if other is None else other]]
    if other is None or ours.instances.keys() != theirs.instances.keys():
        return dict.fromkeys(names)
    found = differences(ours, theirs, [1], missing=settings.missing, seed=settings.seed)[0]
    return dict(zip(names, (found["pass_difference"], found["pass_low"], found["pass_high"]), strict=True))


def _readable(rows: list[dict[str, Cell]]) -> tuple[list[str], list[list[str]]]:
    """Heading and cells of each column; the paper's value stands beside ours."""
    columns = {
        "policy": [str(line["label"]) for line in rows],
        "resolved": [f"{line['resolved']}/{line['attempts']}" for line in rows],
        "resolve rate, %": [_interval(line, "resolve", "rate") for line in rows],
        **_paper_column(rows, "resolve_rate", "resolve, %"),
    }
    if "paper_half_sample_std" in rows[0]:
        columns["± of halves, %"] = [_rate(line["half_sample_std"]) for line in rows]
        columns |= _paper_column(rows, "half_sample_std", "± of halves, %")
    for kind in _compared(rows):
        columns[f"over {kind}"] = [_interval(line, kind, "difference", sign=True) for line in rows]
    for key, title in TIERS.items():
        columns[title] = [str(line[key]) for line in rows]
    for key, title in ({"empty_patch_rate": "empty patch, %"} | _shown_loops(rows)).items():
        columns[title] = [_rate(line[key]) for line in rows]
        columns |= _paper_column(rows, key, title)
    columns["turns"] = [_plain(line["mean_turns"]) for line in rows]
    columns |= _paper_column(rows, "mean_turns", "turns")
    beside = {"resolve_rate", "half_sample_std", "empty_patch_rate", *LOOPS, "mean_turns"}
    for key in (name.removeprefix("paper_") for name in rows[0] if name.startswith("paper_")):
        columns |= {} if key in beside else _paper_column(rows, key, key.replace("_", " "))
    return list(columns), [list(cells) for cells in zip(*columns.values(), strict=True)]


def _paper_column(rows: list[dict[str, Cell]], key: str, title: str) -> dict[str, list[str]]:
    """The paper's column of that key, if the settings name it."""
    written = _rate if key in RATES else _plain
    return {f"paper: {title}": [written(line[f"paper_{key}"]) for line in rows]} if f"paper_{key}" in rows[0] else {}


def _compared(rows: list[dict[str, Cell]]) -> list[str]:
    """The comparisons to show: none if no two rows belong together, one if they come in pairs."""
    found = {kind: [line[f"{kind}_difference"] for line in rows] for kind in ("previous", "first")}
    if found["previous"] == found["first"]:
        return ["previous"] if any(value is not None for value in found["first"]) else []
    return list(found)


def _shown_loops(rows: list[dict[str, Cell]]) -> dict[str, str]:
    """All ways to count them where any finds one or the paper's stand beside; the CSV always has them."""
    return LOOPS if any(row[key] or f"paper_{key}" in row for row in rows for key in LOOPS) else {}


def _interval(line: dict[str, Cell], kind: str, value: str, sign: bool = False) -> str:
    found = [line[f"{kind}_{end}"] for end in (value, "low", "high")]
    rate, low, high = (cell if isinstance(cell, float) else None for cell in found)
    return with_interval(rate, low, high, sign)


def _rate(cell: Cell) -> str:
    return percent(cell) if isinstance(cell, float) else ""


def _plain(cell: Cell) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else ""


def _notes(rows: list[dict[str, Cell]], settings: IterationsTable) -> list[str]:
    sizes = sorted({f"{line['attempts']} attempts on {line['instances']} instances" for line in rows})
    treated = "count as unresolved" if settings.missing == "fail" else "are left out of the rates"
    notes = [
        f"Denominators: {'; '.join(sizes)}. Attempts without a verdict (environment, infrastructure) {treated}.",
        "In brackets: 95 % intervals, percentile bootstrap over instances; differences are paired by instance and in "
        "percentage points.",
    ]
    if "paper_half_sample_std" in rows[0]:
        notes.append("± of halves: the paper's, the spread of means of random halves of the non-empty patches.")
    if _shown_loops(rows):
        notes.append(
            "Stuck: by the scaffold's rules; with a patch: as the paper's script counts, which passes over empty "
            "patches; same action thrice: the paper's words, the last three turns alike."
        )
    return notes
