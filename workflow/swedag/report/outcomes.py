"""What became of every attempt, and of every image: the failures of the model, the environment and our own machines.

In: attempts tables, grades, ledger rows. Out: counts and the commonest reasons, for the template.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from swedag.errors import SwedagError
from swedag.grades import NO_VERDICT, Outcome
from swedag.metrics.reading import Table

Key = tuple[str, int]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
MEANING = {
    "resolved": "every named test passes",
    "unresolved": "the patch applies, a named test does not pass",
    "empty_patch": "the model changed nothing",
    "patch_failed": "the patch does not apply",
    "timeout": "the tests ran too long with the patch",
    "tampered": "the patch meddles with the tests",
    "environment_failure": "the image's gate failed: no verdict on the model",
    "infrastructure_failure": "a server or sandbox was lost: no verdict on the model",
}
TIER: dict[str, str] = {name: "environment" if name == NO_VERDICT[0] else "infrastructure" for name in NO_VERDICT}


@dataclass(frozen=True)
class Tiers:
    """Counts by outcome of a set, in a fixed order; `reasons` the commonest per outcome."""

    name: str
    attempts: int
    instances: int
    counts: dict[str, int]
    reasons: dict[str, list[tuple[str, int]]]


@dataclass
class Images:
    """Instance images of one environment."""

    environment: str
    instances: int = 0
    passed: int = 0
    bytes: int = 0
    inodes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def tier(outcome: str) -> str:
    """resolved, model, environment or infrastructure."""
    return "resolved" if outcome == "resolved" else TIER.get(outcome, "model")


def tiers(name: str, table: Table, graded: dict[Key, str], reasons: dict[Key, str], gates: dict[str, str]) -> Tiers:
    """Outcomes of one attempts table; `graded` and `reasons` are those of its grades, `gates` why an image failed."""
    counts: Counter[str] = Counter()
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for attempt in table.attempts:
        key = (attempt.instance_id, attempt.run)
        outcome = attempt.outcome or ("resolved" if attempt.resolved else "unresolved")
        counts[outcome] += 1
        reason = reasons.get(key, "") if graded.get(key) == outcome else ""
        if outcome == NO_VERDICT[0]:
            reason = gates.get(attempt.instance_id, "") or reason
        if reason and outcome != "resolved":
            said[outcome][reason] += 1
    common = {outcome: found.most_common(3) for outcome, found in said.items()}
    known = {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}
    return Tiers(name, len(table.attempts), len(table.instances), known, common)


def ledger(paths: list[Path]) -> list[dict[str, Any]]:
    """Ledger rows; fields that a row lacks are absent from the report, not an error."""
    rows = []
    for path in paths:
        try:
            found = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise SwedagError(f"{path}: not a ledger row: {error}") from error
        for row in found:
            if not isinstance(row, dict) or not {"instance_id", "passed"} <= row.keys():
                raise SwedagError(f"{path}: not a ledger row: it needs instance_id and passed")
        rows += found
    return rows


def images(rows: list[dict[str, Any]]) -> list[Images]:
    """Ledger rows by environment."""
    found: dict[str, Images] = {}
    for row in rows:
        name = str(row.get("environment", "unknown"))
        group = found.setdefault(name, Images(name))
        group.instances += 1
        group.passed += bool(row["passed"])
        group.bytes += int(row.get("bytes") or 0)
        group.inodes += int(row.get("inodes") or 0)
        if not row["passed"]:
            group.failed.append((str(row["instance_id"]), str(row.get("reason") or "no reason was recorded")))
    return [found[name] for name in sorted(found)]
