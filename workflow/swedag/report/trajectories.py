"""A sample of attempts of each set to click through: what was asked, said and changed, and what the tests say of it.

In: rollout, grade and score shards, read line by line so that only the sample is kept. Out: data of one page each.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swedag.artifacts import sha256
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.instances import Instance
from swedag.trajectory import Rollout

LONGEST = 20_000
Key = tuple[str, int]
Dollars = dict[str, float]


@dataclass(frozen=True)
class Page:
    """One attempt. `file` is its page relative to the report's folder."""

    set: str
    file: str
    instance: Instance
    rollout: Rollout
    grade: Grade
    score: float | None
    scored_by: str
    patch: list[tuple[str, str]]
    gold: list[tuple[str, str]]
    tests: list[tuple[str, str, str]]


@dataclass
class Graded:
    """What the grades of a set say: outcome and reason of each attempt."""

    outcomes: dict[Key, str] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)


def set_of(shard: Path) -> str:
    """`rft-0-eval` of …/rollouts/rft-0-eval/runs-0-3/shard-0.jsonl."""
    return shard.parent.parent.name


def read_grades(shards: list[Path]) -> dict[str, Graded]:
    """Outcomes and reasons by set, without keeping the grades."""
    found: dict[str, Graded] = defaultdict(Graded)
    for shard in shards:
        for row in _lines(shard):
            graded = found[set_of(shard)]
            graded.outcomes[row["instance_id"], row["run"]] = row["outcome"]
            graded.reasons[row["instance_id"], row["run"]] = row.get("reason", "")
    return found


def sample(outcomes: dict[Key, str], most: int) -> list[Key]:
    """At most `most` attempts: every outcome in turn, new instances first; in order of a hash."""
    kinds: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(outcomes, key=lambda key: sha256(f"{key[0]} {key[1]}")):
        kinds[outcomes[key]].append(key)
    chosen: list[Key] = []
    while len(chosen) < most and any(kinds.values()):
        for outcome in sorted(kinds, key=lambda name: (name != "resolved", name)):
            if kinds[outcome] and len(chosen) < most:
                used = {instance_id for instance_id, _ in chosen}
                fresh = next((key for key in kinds[outcome] if key[0] not in used), kinds[outcome][0])
                kinds[outcome].remove(fresh)
                chosen.append(fresh)
    return sorted(chosen)


def read_rollouts(shards: list[Path], wanted: dict[str, set[Key]]) -> tuple[dict[tuple[str, Key], Rollout], Dollars]:
    """The rollouts wanted of each set, and what the calls of all of its rollouts cost at endpoints with prices."""
    said: dict[tuple[str, Key], Rollout] = {}
    dollars: Dollars = defaultdict(float)
    for shard in shards:
        name = set_of(shard)
        for row in _lines(shard):
            dollars[name] += row.get("dollars", 0.0)
            key = (row["instance_id"], row["run"])
            if key in wanted.get(name, set()):
                said[name, key] = Rollout.model_validate(row)
    return said, dollars


def pages(
    instances: dict[str, Instance],
    said: dict[tuple[str, Key], Rollout],
    grades: list[Path],
    scores: list[Path],
    wanted: dict[str, set[Key]],
) -> dict[str, list[Page]]:
    """The sampled attempts by set, sorted by instance and run."""
    judged = {(name, key): Grade.model_validate(row) for name, key, row in _picked(grades, wanted)}
    marks = {(name, key): row for name, key, row in _picked(scores, wanted)}
    verifiers = {set_of(shard): shard.parts[-4] for shard in scores}
    found: dict[str, list[Page]] = {}
    for name, keys in wanted.items():
        found[name] = []
        for key in sorted(keys):
            if (name, key) not in said or key[0] not in instances:
                raise SwedagError(f"set {name}: {key[0]}, run {key[1]} has a grade but no rollout or instance")
            rollout, instance = said[name, key], instances[key[0]]
            found[name].append(
                Page(
                    set=name,
                    file=f"trajectories/{safe(name)}/{safe(key[0])}.run-{key[1]}.html",
                    instance=instance,
                    rollout=rollout,
                    grade=judged[name, key],
                    score=marks.get((name, key), {}).get("score"),
                    scored_by=verifiers.get(name, ""),
                    patch=diff_lines(rollout.patch),
                    gold=diff_lines(instance.patch),
                    tests=tests(instance, judged[name, key]),
                )
            )
    return found


def tests(instance: Instance, grade: Grade) -> list[tuple[str, str, str]]:
    """(test, what it must do, status) of the named tests, those that fail first, then those that must begin to pass."""
    begins = set(instance.FAIL_TO_PASS)
    named = sorted(grade.tests.items(), key=lambda test: (test[1] == "PASSED", test[0] not in begins, test[0]))
    return [(name, "begin to pass" if name in begins else "keep passing", status) for name, status in named]


def safe(name: str) -> str:
    """A file name of a name from outside."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name).lstrip(".") or "_"


def diff_lines(patch: str) -> list[tuple[str, str]]:
    """(class, line) of each line of a diff: meta, hunk, add, del or same."""
    return [(_kind(line), line) for line in shortened(patch).removesuffix("\n").split("\n")] if patch.strip() else []


def _kind(line: str) -> str:
    if line.startswith(("diff ", "index ", "--- ", "+++ ", "new file", "deleted file", "old mode", "new mode")):
        return "meta"
    return {"@": "hunk", "+": "add", "-": "del"}.get(line[:1], "same")


def shortened(text: str, most: int = LONGEST) -> str:
    """`text` with its middle cut out when it is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def _picked(shards: list[Path], wanted: dict[str, set[Key]]) -> Iterator[tuple[str, Key, dict[str, Any]]]:
    for shard in shards:
        name = set_of(shard)
        for row in _lines(shard):
            key = (row["instance_id"], row["run"])
            if key in wanted.get(name, set()):
                yield name, key, row


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise SwedagError(f"{path}: no such file")
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise SwedagError(f"{path}:{number}: not JSON: {error.msg}") from error
            if not isinstance(row, dict) or not {"instance_id", "run"} <= row.keys():
                raise SwedagError(f"{path}:{number}: instance_id and run are needed")
            yield row
