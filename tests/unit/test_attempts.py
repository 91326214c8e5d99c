import csv
import json
from pathlib import Path

import pytest

from swedag.artifacts import sha256
from swedag.attempts import COLUMNS, Score, by_attempt, main, read_gates, tabulate
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.metrics.reading import read_attempts
from swedag.trajectory import Rollout

EXAMPLE = Path(__file__).parents[1] / "data" / "example" / "results"
RUN = EXAMPLE / "example"


def rollout(instance="a", run=0, patch="p", exit="submitted"):
    return Rollout(
        instance_id=instance, run=run, policy="p", scaffold="s", seed=0, temperature=1, messages=[], patch=patch,
        exit=exit, turns=3, prompt_tokens=10, completion_tokens=2, seconds=9.5,
    )  # fmt: skip


def grade(of, outcome="resolved", resolved=True):
    return Grade(
        instance_id=of.instance_id, run=of.run, patch_sha256=sha256(of.patch), outcome=outcome, resolved=resolved,
        official_resolved=resolved,
    )  # fmt: skip


def rows(rollouts, grades, gates=None, scores=None):
    gates = gates or {row.instance_id: True for row in rollouts}
    return tabulate("set", gates, by_attempt(rollouts, "rollout"), by_attempt(grades, "grade"), scores)


def test_one_row_per_attempt_sorted_and_without_timings():
    said = [rollout("b", 1), rollout("a", 10, patch=" \n", exit="stuck"), rollout("a", 1), rollout("b", 10)]
    found = rows(said, [grade(row, "empty_patch", False) if row.exit == "stuck" else grade(row) for row in said])
    assert [(row["instance_id"], row["run"]) for row in found] == [("a", 1), ("a", 10), ("b", 1), ("b", 10)]
    assert tuple(found[0]) == COLUMNS and "seconds" not in found[0]
    assert [found[1][key] for key in ("outcome", "resolved", "exit", "empty_patch", "stuck")] == [
        "empty_patch",
        0,
        "stuck",
        1,
        1,
    ]
    assert [found[0][key] for key in ("resolved", "official_resolved", "turns", "empty_patch", "stuck")] == [
        1,
        1,
        3,
        0,
        0,
    ]


def test_no_verdict_leaves_the_verdict_empty():
    lost, unsure = rollout("a", exit="infrastructure"), rollout("b")
    found = rows([lost, unsure], [grade(lost), grade(unsure, "environment_failure", None)])
    assert [(row["outcome"], row["resolved"], row["official_resolved"]) for row in found] == [
        ("infrastructure_failure", None, None),
        ("environment_failure", None, None),
    ]


def test_a_failed_gate_is_an_environment_failure_in_every_run():
    said = [rollout("a", 0), rollout("a", 1), rollout("good", 0), rollout("good", 1)]
    found = rows(said, [grade(row) for row in said], {"a": False, "never-tried": False, "good": True})
    assert [row["outcome"] for row in found] == ["environment_failure"] * 2 + ["resolved"] * 2 + [
        "environment_failure"
    ] * 2
    assert [row["turns"] for row in found[-2:]] == [None, None]


@pytest.mark.parametrize(
    ("rollouts", "grades", "gates", "message"),
    [
        ([], [], {"a": True}, "no rollouts were given"),
        ([rollout()], [], None, "a rollout but no grade"),
        ([rollout()], [grade(rollout()), grade(rollout("b"))], None, "a grade but no rollout of b, run 0"),
        ([rollout()], [grade(rollout(patch="other"))], None, "grade is of another patch"),
        ([rollout()], [grade(rollout())], {"a": True, "b": True}, "b, run 0: no rollout, though its gate passed"),
        ([rollout()], [grade(rollout())], {"b": True}, "rollouts of a, which --instances does not have"),
    ],
)
def test_whatever_lacks_its_partner_is_an_error(rollouts, grades, gates, message):
    with pytest.raises(SwedagError, match=message):
        rows(rollouts, grades, gates)


def test_doubled_rows_and_missing_scores_are_errors():
    with pytest.raises(SwedagError, match="two rollouts of a, run 0"):
        by_attempt([rollout(), rollout()], "rollout")
    with pytest.raises(SwedagError, match="a, run 0: no score"):
        rows([rollout()], [grade(rollout())], scores={})
    none = Score(instance_id="a", run=0, score=None, error="too long")
    assert rows([rollout()], [grade(rollout())], scores={("a", 0): none})[0]["score"] is None


def test_gates_come_from_shards_of_ledger_rows(tmp_path):
    shards = [tmp_path / f"shard-{number}.gates.jsonl" for number in range(3)]
    for path, name, passed in zip(shards, "ab", (True, False), strict=False):
        path.write_text(json.dumps({"instance_id": name, "passed": passed, "bytes": 3}) + "\n")
    assert read_gates(shards[:2], ["b", "a"]) == {"a": True, "b": False}
    with pytest.raises(SwedagError, match="1 instances have no gate, such as c"):
        read_gates(shards[:1], ["a", "c"])
    with pytest.raises(SwedagError, match=r"shard-2\.gates\.jsonl: no such file"):
        read_gates(shards, ["c"])
    shards[2].write_text('{"instance_id": "c"}')
    with pytest.raises(SwedagError, match=r"shard-2\.gates\.jsonl:1: passed: Field required"):
        read_gates(shards, ["c"])


def table(output: Path, name: str = "rft-2-eval", scored: bool = True) -> Path:
    main(
        set_name=name,
        instances=RUN / "instances/eval.jsonl",
        gates=[RUN / "images/eval/shard-0.gates.jsonl"],
        rollouts=sorted((RUN / "rollouts" / name).rglob("*.jsonl")),
        grades=sorted((RUN / "grades" / name).rglob("*.jsonl")),
        scores=sorted((RUN / "scores/judge" / name).rglob("*.jsonl")) if scored else None,
        output=output,
    )
    return output


def test_the_table_of_the_example_reads_back_and_is_the_same_bytes_again(tmp_path):
    first, second = table(tmp_path / "a.csv"), table(tmp_path / "b.csv")
    assert first.read_bytes() == second.read_bytes()
    found = read_attempts(first)
    assert found.scored and len(found.instances) == 6 and all(len(group) == 4 for group in found.instances.values())
    assert [a.outcome for a in found.instances["tinydb-4.8.0.eval-005"]] == ["environment_failure"] * 4
    assert found.instances["wcwidth-0.2.13.eval-003"][0].score is None
    with table(tmp_path / "c.csv", scored=False).open() as stream:
        assert "score" not in next(csv.reader(stream))
