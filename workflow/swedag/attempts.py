"""All attempts of a rollout set in one table: who tried what, what came of it, and what a verifier thought of it.

In: instances, gates, and the rollout, grade and score shards of a set. Out: a CSV, one row per (instance, run), sorted,
without anything that varies between equal runs (no timings). `resolved` is empty where no verdict may be drawn. `stuck`
is the scaffold's own rule, `repeated` the paper's words for it: the same action in the last three turns.
"""

import csv
import io
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer
from pydantic import BaseModel, ConfigDict

from swedag.artifacts import read_jsonl, sha256, write_text
from swedag.errors import SwedagError
from swedag.grades import NO_VERDICT, Grade, Outcome
from swedag.instances import read_instances
from swedag.trajectory import Rollout

COLUMNS = (
    "instance_id",
    "run",
    "outcome",
    "resolved",
    "official_resolved",
    "exit",
    "turns",
    "prompt_tokens",
    "completion_tokens",
    "empty_patch",
    "stuck",
    "repeated",
)
Key = tuple[str, int]
Cell = str | int | float | None


class _Attempted(Protocol):
    @property
    def instance_id(self) -> str: ...
    @property
    def run(self) -> int: ...


Row = TypeVar("Row", bound=_Attempted)


class Gate(BaseModel):
    """What this step needs of a ledger row: did the gold patch resolve the instance, and the empty patch not?"""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instance_id: str
    passed: bool


class Score(BaseModel):
    """A verifier's opinion of one rollout: a number in [0, 1], or none and the reason."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instance_id: str
    run: int
    score: float | None
    error: str = ""


def read_gates(paths: list[Path], instance_ids: list[str]) -> dict[str, bool]:
    """Whether each instance passed its gate. `paths` are shards of ledger rows (.jsonl of `gates`)."""
    gates = {gate.instance_id: gate.passed for path in paths for gate in read_jsonl(path, Gate)}
    absent = [name for name in instance_ids if name not in gates]
    if absent:
        raise SwedagError(f"--gates: {len(absent)} instances have no gate, such as {absent[0]}: give their ledger rows")
    return gates


def by_attempt(rows: list[Row], kind: str) -> dict[Key, Row]:
    """Rows by (instance, run); a doubled one is an error."""
    found: dict[Key, Row] = {}
    for row in rows:
        if (row.instance_id, row.run) in found:
            raise SwedagError(f"two {kind}s of {row.instance_id}, run {row.run}: give every shard once")
        found[row.instance_id, row.run] = row
    return found


def tabulate(
    name: str,
    gates: dict[str, bool],
    rollouts: dict[Key, Rollout],
    grades: dict[Key, Grade],
    scores: dict[Key, Score] | None = None,
) -> list[dict[str, Cell]]:
    """One row per instance of `gates` and run of the set; SwedagError where a rollout, grade or score has no partner.

    An instance whose gate failed is an environment failure in every run, whatever was rolled out and graded on it.
    """
    if not rollouts:
        raise SwedagError(f"set {name}: no rollouts were given")
    strangers = sorted({instance_id for instance_id, _ in rollouts} - gates.keys())
    if strangers:
        raise SwedagError(f"set {name}: rollouts of {strangers[0]}, which --instances does not have")
    for kind, others in (("grade", grades), ("score", scores or {})):
        orphans = sorted(others.keys() - rollouts.keys())
        if orphans:
            raise SwedagError(f"set {name}: a {kind} but no rollout of {orphans[0][0]}, run {orphans[0][1]}")
    rows = []
    for run in sorted({run for _, run in rollouts}):
        for instance_id, passed in gates.items():
            key = (instance_id, run)
            score = {} if scores is None else {"score": _score(name, key, key in rollouts, scores)}
            if passed:
                rows.append(_row(name, key, rollouts.get(key), grades.get(key)) | score)
            else:
                rows.append(_cells(key, "environment_failure", rollouts.get(key)) | score)
    return sorted(rows, key=lambda row: (str(row["instance_id"]), int(row["run"] or 0)))


def _row(name: str, key: Key, rollout: Rollout | None, grade: Grade | None) -> dict[str, Cell]:
    place = f"set {name}: {key[0]}, run {key[1]}"
    if rollout is None:
        raise SwedagError(f"{place}: no rollout, though its gate passed; give all shards of the set")
    if grade is None:
        raise SwedagError(f"{place}: a rollout but no grade; give the grades of the same shards")
    if grade.patch_sha256 != sha256(rollout.patch):
        raise SwedagError(f"{place}: the grade is of another patch than the rollout's; grade the shard again")
    if rollout.exit == "infrastructure":
        return _cells(key, "infrastructure_failure", rollout)
    return _cells(key, grade.outcome, rollout, grade)


def _cells(key: Key, outcome: Outcome, rollout: Rollout | None, grade: Grade | None = None) -> dict[str, Cell]:
    verdict = grade if grade and outcome not in NO_VERDICT else None
    values = (
        *key,
        outcome,
        _flag(verdict.resolved if verdict else None),
        _flag(verdict.official_resolved if verdict else None),
        rollout.exit if rollout else None,
        rollout.turns if rollout else None,
        rollout.prompt_tokens if rollout else None,
        rollout.completion_tokens if rollout else None,
        _flag(not rollout.patch.strip() if rollout else None),
        _flag(rollout.exit == "stuck" if rollout else None),
        _flag(rollout.repeated if rollout else None),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _score(name: str, key: Key, rolled_out: bool, scores: dict[Key, Score]) -> Cell:
    if rolled_out and key not in scores:
        raise SwedagError(f"set {name}: {key[0]}, run {key[1]}: no score; give the scores of the same shards")
    return scores[key].score if key in scores else None


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def main(
    set_name: Annotated[str, typer.Option("--set", help="Name of the rollout set, for messages")],
    instances: Annotated[Path, typer.Option(help="Instances of the set's dataset (.jsonl)")],
    gates: Annotated[list[Path], typer.Option(help="Their ledger rows (.jsonl of gates)")],
    rollouts: Annotated[list[Path], typer.Option(help="All rollout shards of the set")],
    grades: Annotated[list[Path], typer.Option(help="The grade shards of the same")],
    output: Annotated[Path, typer.Option(help="The attempts table (.csv)")],
    scores: Annotated[list[Path] | None, typer.Option(help="The score shards of the same, from one verifier")] = None,
) -> None:
    """Join rollouts, grades and scores into one table of attempts; anything that lacks its partner is an error."""
    instance_ids = list(read_instances(instances))
    passed = read_gates(gates, instance_ids)
    rows = tabulate(
        set_name,
        {name: passed[name] for name in instance_ids},
        by_attempt([row for path in rollouts for row in read_jsonl(path, Rollout)], "rollout"),
        by_attempt([row for path in grades for row in read_jsonl(path, Grade)], "grade"),
        by_attempt([row for path in scores for row in read_jsonl(path, Score)], "score") if scores else None,
    )
    out = io.StringIO()
    writer = csv.DictWriter(out, [*COLUMNS, "score"] if scores else COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output, out.getvalue())
