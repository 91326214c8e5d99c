import csv
import random
from collections import Counter
from pathlib import Path

import pytest

from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.training_sets import TrainingSetSettings, _conversations, join, percentiles, select
from swedag.trajectory import Message, Rollout

REFERENCE = Path("config/reference")


def rollout(instance, run, turns=1, patch="p"):
    message = Message(role="assistant", content="reply")
    return Rollout(
        instance_id=instance, run=run, policy="p", scaffold="s", seed=0, temperature=1, messages=[message], patch=patch,
        exit="submitted", turns=turns, prompt_tokens=1, completion_tokens=1, seconds=0,
    )  # fmt: skip


def grade(row, outcome="resolved"):
    resolved = outcome == "resolved"
    return Grade(
        instance_id=row.instance_id, run=row.run, patch_sha256="", outcome=outcome, resolved=resolved,
        official_resolved=resolved,
    )  # fmt: skip


def graded(rows):
    return [(row, grade(row)) for row in rows]


def chosen(rows, repositories=None, **settings):
    repositories = repositories or {row.instance_id: "r" for row, _ in rows}
    return select(rows, repositories, TrainingSetSettings(**settings))


def reference(name):
    return list(csv.DictReader((REFERENCE / name).open()))


@pytest.mark.parametrize(("cap", "rows"), [(1, 36), (2, 62), (3, 82), (None, 172)])
def test_caps_on_the_successes_of_figure_3_give_the_rows_of_table_4(cap, rows):
    counts = [int(row["successes"]) for row in reference("fig3_successes.csv")]
    successes = graded([rollout(f"i{rank}", run) for rank, count in enumerate(counts) for run in range(count)])
    kept, left = chosen(successes, cap=cap)
    assert len(kept) == rows
    assert left["resolved"] == 172


@pytest.mark.parametrize("column", ["repo_first_25", "repo_first_50"])
def test_sorting_by_repository_and_cutting_gives_table_7(column):
    rows = [row for row in reference("table7_trajectory_distribution.csv") if row["repo"] != "total"]
    repositories = {f"{row['repo']}-{i}": row["repo"] for row in rows for i in range(int(row["dedup"]))}
    everything = graded([rollout(name, 0) for name in sorted(repositories, key=hash)])
    fraction = {"repo_first_25": 73 / 294, "repo_first_50": 0.5}[column]
    kept, _ = chosen(everything, repositories, sort="repository", fraction=fraction)
    counts = Counter(repositories[row.instance_id] for row, _ in kept)
    assert {row["repo"]: counts[row["repo"]] for row in rows} == {row["repo"]: int(row[column]) for row in rows}


def test_only_resolved_rollouts_stay():
    rows = [rollout("a", run) for run in range(4)]
    outcomes = ["unresolved", "resolved", "infrastructure_failure", "empty_patch"]
    kept, left = chosen([(row, grade(row, outcome)) for row, outcome in zip(rows, outcomes, strict=True)])
    assert [row.run for row, _ in kept] == [1]
    assert left == {"rollouts": 4, "resolved": 1}


def test_the_cap_takes_the_fewest_calls_then_the_lowest_run():
    turns = [5, 2, 9, 2, 3]
    kept, _ = chosen(graded([rollout("a", run, turns=n) for run, n in enumerate(turns)]), cap=3)
    assert sorted(row.run for row, _ in kept) == [1, 3, 4]


def test_one_of_the_rollouts_with_the_same_patch_stays():
    rows = graded(
        [rollout("a", 0, patch="x"), rollout("a", 1, patch="x"), rollout("a", 2, patch="y"), rollout("b", 0, patch="x")]
    )
    kept, _ = chosen(rows, distinct_patches=True)
    assert sorted((row.instance_id, row.run) for row, _ in kept) == [("a", 0), ("a", 2), ("b", 0)]


def test_the_order_of_the_input_within_a_seed_decides_everything():
    rows = graded([rollout(f"i{i}", run) for i in range(9) for run in range(3)])
    first, _ = chosen(rows, one_per_instance=True, seed=3)
    again, _ = chosen(rows, one_per_instance=True, seed=3)
    other, _ = chosen(rows, one_per_instance=True, seed=4)
    assert first == again != other
    assert len({row.instance_id for row, _ in first}) == len(first) == 9


def test_rollouts_over_the_token_limit_are_dropped():
    rows = graded([rollout("a", run) for run in range(3)])
    tokens = {id(row): length for (row, _), length in zip(rows, [10, 11, 12], strict=True)}
    kept, left = select(rows, {"a": "r"}, TrainingSetSettings(max_tokens=11), tokens)
    assert len(kept) == left["max_tokens"] == 2


def test_a_grade_of_another_rollout_is_an_error():
    row, other = rollout("a", 0), rollout("a", 1)
    with pytest.raises(SwedagError, match="a run 0"):
        join([row], [grade(other)])
    with pytest.raises(SwedagError, match="2 rollouts but 1 grades"):
        join([row, other], [grade(row)])


def test_percentiles_are_those_of_table_8():
    values = list(range(1, 102))
    random.Random(0).shuffle(values)
    assert percentiles(values) == {
        "count": 101, "mean": 51.0, "min": 1, "max": 101,
        "p5": 6, "p10": 11, "p25": 26, "p50": 51, "p75": 76, "p90": 91, "p95": 96,
    }  # fmt: skip
    assert percentiles([]) == {"count": 0}


def test_independent_calls_of_a_rollout_are_rows_of_their_own():
    said = [Message(role=role, content=role) for role in ("system", "user", "assistant")]
    calls = rollout("i", 3).model_copy(update={"messages": [*said, *said, *said[1:]]})
    rows = _conversations(calls)
    assert [len(row["messages"]) for row in rows] == [3, 5]
    assert all((row["messages"][0]["role"], row["run"]) == ("system", 3) for row in rows)
    assert len(_conversations(rollout("i", 0))) == 1
