import csv
import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from swedag.artifacts import write_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.training_sets import TrainingSetSettings, conversations_of, join, main, percentiles, select
from swedag.trajectory import Message, Rollout
from tests.unit.test_scaffolds import INSTANCE

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


@pytest.mark.parametrize(
    ("column", "settings"),
    [
        ("original", {}),
        ("dedup", {"one_per_instance": True}),
        ("repo_first_25", {"one_per_instance": True, "sort": "repository", "fraction": 0.25}),
        ("repo_first_50", {"one_per_instance": True, "sort": "repository", "fraction": 0.5}),
    ],
)
def test_the_columns_of_table_7_follow_from_its_first(column, settings):
    rows = table_7()
    repositories = {f"{row['repo']}-{i}": row["repo"] for row in rows for i in range(int(row["dedup"]))}
    everything = [
        rollout(f"{row['repo']}-{i % int(row['dedup'])}", i) for row in rows for i in range(int(row["original"]))
    ]
    random.Random(0).shuffle(everything)
    kept, _ = chosen(graded(everything), repositories, **settings)
    counts = Counter(repositories[row.instance_id] for row, _ in kept)
    assert {row["repo"]: counts[row["repo"]] for row in rows} == {row["repo"]: int(row[column]) for row in rows}


@pytest.mark.parametrize(
    ("rows", "fraction", "left"), [(294, 0.25, 73), (294, 0.5, 147), (491, 0.25, 122), (491, 0.5, 245), (100, 0.29, 29)]
)
def test_a_random_share_has_the_papers_number_of_rows(rows, fraction, left):
    assert [sum(int(row[f"random_first_{percent}"]) for row in table_7()) for percent in (25, 50)] == [73, 147]
    everything = graded([rollout(f"i{number}", 0) for number in range(rows)])
    kept, counts = chosen(everything, fraction=fraction)
    assert len(kept) == counts["fraction"] == left
    smaller, _ = chosen(everything, fraction=fraction / 2)
    assert smaller == kept[: len(smaller)]


def table_7():
    return [row for row in reference("table7_trajectory_distribution.csv") if row["repo"] != "total"]


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
        "count": 101, "mean": 51.0, "std": 29.3, "min": 1, "max": 101,
        "p5": 6, "p10": 11, "p25": 26, "p50": 51, "p75": 76, "p90": 91, "p95": 96,
    }  # fmt: skip
    assert percentiles([]) == {"count": 0}


def test_independent_calls_of_a_rollout_are_rows_of_their_own():
    said = [Message(role=role, content=role) for role in ("system", "user", "assistant")]
    calls = rollout("i", 3).model_copy(update={"messages": [*said, *said, *said[1:]]})
    rows = conversations_of(calls)
    assert [len(row["messages"]) for row in rows] == [3, 5]
    assert all((row["messages"][0]["role"], row["run"]) == ("system", 3) for row in rows)
    assert len(conversations_of(rollout("i", 0))) == 1


def test_the_card_tells_what_went_in_what_was_taken_and_how_long_it_is(tmp_path):
    words = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    instances = [INSTANCE.model_copy(update={"instance_id": name, "repo": f"owner/{name}"}) for name in "ab"]
    said = {1: "one two three", 2: "one", 3: "one two"}
    rows = [
        rollout(name, run).model_copy(update={"messages": [Message(role="assistant", content=said[run])]})
        for name in "ab"
        for run in said
    ]
    outcomes = ["resolved", "resolved", "unresolved", "resolved", "resolved", "resolved"]
    files = {name: tmp_path / f"{name}.jsonl" for name in ("instances", "rollouts", "grades", "out")}
    write_jsonl(files["instances"], instances)
    write_jsonl(files["rollouts"], rows)
    write_jsonl(files["grades"], [grade(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)])
    settings = TrainingSetSettings(max_tokens=2, cap=1, sort="repository").model_dump_json()
    inputs = [[files["instances"]], [files["rollouts"]], [files["grades"]], tmp_path / "tokenizer.json"]
    main(settings, "set", *inputs, files["out"], tmp_path / "card.json")

    card = json.loads((tmp_path / "card.json").read_text())
    assert card["left_after"] == {"rollouts": 6, "resolved": 5, "max_tokens": 3, "cap": 2}
    assert card["ids"] == ["a:2", "b:2"] and card["rows"] == card["instances"] == 2
    assert card["repositories"] == {"owner/a": 1, "owner/b": 1}
    assert (card["tokens_resolved"]["max"], card["tokens_unresolved"]["max"], card["tokens"]["max"]) == (3, 2, 1)
    assert card["messages_resolved"]["count"] == 5 and card["messages_unresolved"]["count"] == 1
    for path in (files["instances"], files["rollouts"], files["grades"], tmp_path / "tokenizer.json"):
        assert card["inputs"][str(path)] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["rows_sha256"] == hashlib.sha256(files["out"].read_bytes()).hexdigest()
    messages = [{"role": "assistant", "content": "one"}]
    assert [json.loads(line) for line in files["out"].read_text().splitlines()] == [
        {"messages": messages, "instance_id": name, "run": 2} for name in "ab"
    ]
