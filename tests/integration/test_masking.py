"""The loss falls on the assistant's turns and nothing else: rows of every scaffold, every chat template, packed or not."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swedag.artifacts import read_jsonl, write_jsonl
from swedag.imports.step import read, rollouts
from swedag.scaffolds import MoatlessSettings, begin
from swedag.serving import tool_python
from swedag.training_sets import conversations_of
from swedag.trajectory import Message, Rollout
from tests.conftest import ROOT
from tests.integration.models import instruct_model, random_model
from tests.integration.test_training import BLANK
from tests.unit.repository import Repository
from tests.unit.test_imports import sampled
from tests.unit.test_moatless import FOUND, answers, identify, search
from tests.unit.test_scaffolds import INSTANCE, drive

pytestmark = pytest.mark.integration
RECORDED = ROOT / "tests/data/trajectories"
EXAMPLE = ROOT / "tests/data/example/results/example/rollouts/rft-0-eval/runs-0-3/shard-0.jsonl"
# What a template says where a conversation has no system message.
DEFAULT_SYSTEM = {
    "Qwen2.5": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "SmolLM2": "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
}
TEMPLATES = [f"{name}, {how}" for name in ("tiny", *DEFAULT_SYSTEM) for how in ("not packed", "packed")]


def single_edit() -> list[Rollout]:
    return [row for row in read_jsonl(EXAMPLE, Rollout) if row.messages][:8]


def mini() -> list[Rollout]:
    return [row for row, _ in rollouts(read(RECORDED / "mini_github_issue.traj.json"), "teacher", [])]


def codeact(folder: Path) -> list[Rollout]:
    write_jsonl(folder / "rows.jsonl", [sampled()])
    return [row for row, _ in rollouts(read(folder / "rows.jsonl"), "teacher", [])]


def moatless(folder: Path) -> list[Rollout]:
    """The recorded run gone through again, up to its first edit: a conversation per call of the model."""
    recorded = json.loads((RECORDED / "moatless_two_edits.json").read_text())
    plan, edit, _, _, finish = (step["actions"][0] for step in recorded["transitions"][:5])
    path = plan["output"]["file_path"]
    repository = Repository(folder, {path: (RECORDED / "pytest_evaluate.txt").read_text()})
    change = {"scratch_pad": plan["action"]["thoughts"], "action": "modify", **plan["action"]["action"]}
    replies = iter(
        [
            search(code_snippet="def cached_eval("),
            identify(path, "cached_eval", "MarkEvaluator._istrue"),
            FOUND,
            json.dumps(change),
            edit["action"]["content"],
            json.dumps({"action": "finish", "finish": finish["output"]["message"]}),
        ]
    )
    _, ended = drive(begin(INSTANCE, MoatlessSettings()), answers(repository, lambda: next(replies)))
    (like,) = mini()
    return [like.model_copy(update={"scaffold": "moatless", "messages": list(ended.conversation)})]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[dict[str, str]]]]:
    """The messages of the training rows of each scaffold."""
    folder = tmp_path_factory.mktemp("rows")
    made = {
        "single_edit": single_edit(),
        "mini": mini(),
        "codeact": codeact(folder),
        "moatless": moatless(folder),
    }
    return {
        scaffold: [row["messages"] for rollout in of_scaffold for row in conversations_of(rollout)]
        for scaffold, of_scaffold in made.items()
    }


@pytest.fixture(scope="module")
def seen(rows: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("masks")
    python, environment = tool_python(), os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}
    subprocess.run([python, "-c", BLANK, str(folder / "tiny")], env=environment, check=True, capture_output=True)
    job = {
        "work": str(folder),
        "conversations": [row for of_scaffold in rows.values() for row in of_scaffold],
        "short": rows["single_edit"],
        "random": str(random_model()),
        "tiny": str(folder / "tiny"),
        "smollm2": str(instruct_model()),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(python), str(ROOT / "tests/integration/masks.py"), str(folder / "job.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rendered(messages: list[dict[str, str]], template: str) -> str:
    default = DEFAULT_SYSTEM.get(template.partition(",")[0])
    said = [Message(**message) for message in messages]
    if default and said[0].role != "system":
        said = [Message(role="system", content=default), *said]
    return "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in said)


@pytest.mark.parametrize("scaffold", ["single_edit", "mini", "codeact", "moatless"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_what_is_learnt_are_exactly_the_assistants_turns(
    rows: dict[str, list[Any]], seen: dict[str, Any], scaffold: str, template: str
) -> None:
    learnt = {document["text"]: document["learnt"] for document in seen["learnt"][template]}
    assert len(rows[scaffold]) >= 1
    for messages in rows[scaffold]:
        turns = [f"{message['content']}<|im_end|>" for message in messages if message["role"] == "assistant"]
        assert turns and learnt[rendered(messages, template)] == turns


def test_no_row_is_lost_or_split(rows: dict[str, list[Any]], seen: dict[str, Any]) -> None:
    everything = [row for of_scaffold in rows.values() for row in of_scaffold]
    for template in TEMPLATES:
        texts = sorted(document["text"] for document in seen["learnt"][template])
        assert texts == sorted(rendered(row, template) for row in everything)


def test_packed_neighbours_do_not_see_each_other(seen: dict[str, Any]) -> None:
    isolation = seen["isolation"]
    assert isolation["documents"] >= 3
    assert isolation["packed"] < 1e-4
    assert isolation["varlen"] < 1e-4
    assert isolation["joined"] > 0.1  # what they would be if they did


def test_a_moatless_row_is_one_call(rows: dict[str, list[Any]]) -> None:
    assert len(rows["moatless"]) == 6
    assert all(row[0]["role"] == "system" and row[-1]["role"] == "assistant" for row in rows["moatless"])
