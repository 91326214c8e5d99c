"""Rollouts as SWE-bench predictions: what the `swebench` package itself reads, and what we read back."""

import json
from pathlib import Path
from typing import Any

import pytest

from swedag.artifacts import write_jsonl
from swedag.errors import SwedagError
from swedag.predictions import Prediction, main, predictions, read_predictions
from swedag.trajectory import Rollout
from tests.unit.test_agreement import of_swebench

PATCH = "diff --git a/m.py b/m.py\n--- a/m.py\n+++ b/m.py\n@@ -1 +1 @@\n-é = 1\n+é = 2\n"


def rollout(instance_id: str, run: int = 0, patch: str = PATCH, **values: Any) -> Rollout:
    given: dict[str, Any] = {"exit": "submitted", "policy": "rft-1", **values}
    return Rollout(
        instance_id=instance_id,
        run=run,
        scaffold="codeact",
        seed=1,
        temperature=0,
        messages=[],
        patch=patch,
        turns=1,
        prompt_tokens=1,
        completion_tokens=1,
        seconds=1,
        **given,
    )


ROWS = [rollout("b__b-2"), rollout("a__a-1", patch=""), rollout("c__c-3", exit="infrastructure", patch="")]


@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions.json"])
def test_the_swebench_package_reads_what_is_written(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / "shard-0.jsonl", ROWS[:1])
    write_jsonl(tmp_path / "shard-1.jsonl", ROWS[1:])
    main([tmp_path / "shard-0.jsonl", tmp_path / "shard-1.jsonl"], tmp_path / name)
    load = of_swebench("utils").get_predictions_from_file
    assert load(str(tmp_path / name), "", "") == [
        {"instance_id": "a__a-1", "model_name_or_path": "rft-1", "model_patch": ""},
        {"instance_id": "b__b-2", "model_name_or_path": "rft-1", "model_patch": PATCH},
    ]
    assert [row.instance_id for row in read_predictions(tmp_path / name)] == ["a__a-1", "b__b-2"]


def test_a_prediction_is_of_one_run_and_may_have_another_name() -> None:
    rows = [rollout("a__a-1", run, patch=str(run)) for run in range(3)]
    with pytest.raises(SwedagError, match=r"runs 0 to 2, .* choose it by --run"):
        predictions(rows)
    assert predictions(rows, 2, "mine") == [
        Prediction(instance_id="a__a-1", model_name_or_path="mine", model_patch="2")
    ]
    with pytest.raises(SwedagError, match="no rollouts of run 7; there are 0, 1, 2"):
        predictions(rows, 7)


def test_two_rollouts_of_one_run_are_refused() -> None:
    with pytest.raises(SwedagError, match="a__a-1 has several rollouts of run 0"):
        predictions([rollout("a__a-1"), rollout("a__a-1")])


def test_only_json_files_are_written(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shard.jsonl", ROWS)
    with pytest.raises(SwedagError, match=r"preds\.csv: predictions are \.jsonl or \.json"):
        main([tmp_path / "shard.jsonl"], tmp_path / "preds.csv")
    assert not (tmp_path / "preds.csv").exists()


def test_predictions_by_instance_are_read(tmp_path: Path) -> None:
    row = {"instance_id": "a__a-1", "model_patch": None, "model_name_or_path": "m", "further": 1}
    (tmp_path / "preds.json").write_text(json.dumps({"a__a-1": row}))
    assert read_predictions(tmp_path / "preds.json")[0].model_patch is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "cannot be read as JSON"), ('[{"instance_id": "a"}]', "prediction 0.model_patch: Field required")],
)
def test_a_file_that_has_none_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "preds.json").write_text(text)
    with pytest.raises(SwedagError, match=f"preds.json: {problem}"):
        read_predictions(tmp_path / "preds.json")
