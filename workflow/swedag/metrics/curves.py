"""Pass@k and Best@k over a whole table, with intervals, and paired differences between two tables.

In: `Table`s from `reading`. Out: plain rows (dicts), rates between 0 and 1, `None` where there is nothing to say.
"""

import re
from typing import Literal

from swedag.errors import SwedagError
from swedag.metrics.closed import best_at_k, pass_at_k
from swedag.metrics.intervals import RESAMPLES, bootstrap, mean
from swedag.metrics.paper import monte_carlo
from swedag.metrics.reading import Attempt, Missing, Table

Estimator = Literal["closed", "paper"]
Variant = Literal["openhands", "moatless"]
Row = dict[str, float | int | None]


def parse_ks(text: str) -> list[int]:
    """`1-16`, `1,2,4` or a mixture, as sorted distinct numbers."""
    ks: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise SwedagError(f"k: {text!r} is not a list of numbers from 1 up, such as 1-16 or 1,2,4-8")
        ks.update(range(first, last + 1))
    return sorted(ks)


def most_attempts(table: Table) -> int:
    return max(len(attempts) for attempts in table.instances.values())


def counted(table: Table, missing: Missing) -> dict[str, list[Attempt]]:
    """The attempts that enter a rate. With `exclude`, an instance without any verdict leaves the denominator."""
    if missing == "fail":
        return table.instances
    kept = {name: [a for a in group if a.resolved is not None] for name, group in table.instances.items()}
    kept = {name: group for name, group in kept.items() if group}
    if not kept:
        raise SwedagError(f"{table.path}: resolved: no attempt has a verdict; with --missing exclude nothing is left")
    return kept


def pass_values(instances: dict[str, list[Attempt]], k: int) -> list[float]:
    """Pass@k of each instance, in their order."""
    return [pass_at_k(len(group), sum(a.resolved is True for a in group), k) for group in instances.values()]


def best_values(instances: dict[str, list[Attempt]], k: int) -> list[float]:
    """Best@k of each instance, in their order."""
    return [best_at_k([(a.score, a.resolved is True) for a in group], k) for group in instances.values()]


def curve(
    table: Table,
    ks: list[int],
    *,
    estimator: Estimator = "closed",
    variant: Variant = "openhands",
    missing: Missing = "fail",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Row]:
    """One row per k. `closed`: 95 % bootstrap interval over instances; `paper`: mean ± std over its 100 trials.

    Rates and both ends of their intervals lie in 0..1.
    """
    instances = counted(table, missing)
    if estimator == "paper":
        points = _paper_points(list(instances.values()), ks, variant, seed)
    else:
        points = _closed_points(instances, ks, table.scored, seed, resamples)
    names = ("pass_at_k", "pass_low", "pass_high", "best_at_k", "best_low", "best_high")
    rows: list[Row] = []
    for k, point in zip(ks, points, strict=True):
        cells = point if table.scored else (*point[:3], None, None, None)
        rows.append(
            {"k": k}
            | dict(zip(names, cells, strict=True))
            | {
                "n_instances": len(instances),
                "n_attempts": sum(map(len, instances.values())),
                "n_short": sum(len(group) < k for group in instances.values()),
            }
        )
    return rows


def _closed_points(
    instances: dict[str, list[Attempt]], ks: list[int], scored: bool, seed: int, resamples: int
) -> list[tuple[float | None, ...]]:
    # Beyond the most attempts that any instance has, nothing changes.
    most = max(map(len, instances.values()))
    distinct = sorted({min(k, most) for k in ks})
    columns = [pass_values(instances, k) for k in distinct]
    if scored:
        columns += [best_values(instances, k) for k in distinct]
    points = [
        _around(mean(values), *ends) for values, ends in zip(columns, bootstrap(columns, seed, resamples), strict=True)
    ]
    best = points[len(distinct) :] or points
    by_k = {k: (*a, *b) for k, a, b in zip(distinct, points[: len(distinct)], best, strict=True)}
    return [by_k[min(k, most)] for k in ks]


def _around(value: float, low: float, high: float) -> tuple[float, float, float]:
    """A value and its interval, which holds it: the ends are rounded, the value is not."""
    return value, min(low, value), max(high, value)


def _paper_points(
    instances: list[list[Attempt]], ks: list[int], variant: Variant, seed: int
) -> list[tuple[float | None, ...]]:
    own = variant == "openhands"
    return [
        (p, max(p - p_std, 0.0), min(p + p_std, 1.0), b, max(b - b_std, 0.0), min(b + b_std, 1.0))
        for p, p_std, b, b_std in monte_carlo(instances, ks, fixed_first_run=own, nested=own, seed=seed)
    ]


def differences(
    table: Table,
    baseline: Table,
    ks: list[int],
    *,
    missing: Missing = "fail",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Row]:
    """Paired differences table - baseline per k over the instances that both have, with 95 % bootstrap intervals."""
    ours, theirs = counted(table, missing), counted(baseline, missing)
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise SwedagError(f"{table.path} and {baseline.path} have no instance_id in common; nothing can be paired")
    ours, theirs = {name: ours[name] for name in common}, {name: theirs[name] for name in common}
    kinds = {"pass": pass_values} | ({"best": best_values} if table.scored and baseline.scored else {})
    columns = {
        (kind, k): [a - b for a, b in zip(values(ours, k), values(theirs, k), strict=True)]
        for kind, values in kinds.items()
        for k in ks
    }
    ends = dict(zip(columns, bootstrap(list(columns.values()), seed, resamples), strict=True))
    rows: list[Row] = []
    for k in ks:
        row: Row = {"k": k}
        for kind in ("pass", "best"):
            known = (kind, k) in columns
            cells = _around(mean(columns[kind, k]), *ends[kind, k]) if known else (None, None, None)
            row |= dict(zip((f"{kind}_difference", f"{kind}_low", f"{kind}_high"), cells, strict=True))
        row["n_instances"] = len(common)
        row["n_short"] = sum(min(len(ours[name]), len(theirs[name])) < k for name in common)
        rows.append(row)
    return rows
