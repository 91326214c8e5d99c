"""Published trajectories as rollouts: OpenHands rows in both forms, mini-swe-agent files, predictions."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import yaml
from pyarrow import parquet

from swedag.artifacts import read_jsonl, write_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.imports import main
from swedag.imports.step import read, rollouts
from swedag.instances import Instance
from swedag.scaffolds import CodeActSettings
from swedag.scaffolds.codeact.agent import opening
from swedag.scaffolds.codeact.calls import parse
from swedag.trajectory import Rollout
from tests.unit.test_scaffolds import INSTANCE

RECORDED = Path(__file__).parents[1] / "data/trajectories"
ASTROPY, DJANGO = "astropy__astropy-12907", "django__django-11211"


def sampled(name: str = ASTROPY, **values: Any) -> dict[str, Any]:
    """A row as SWE-Gym/OpenHands-Sampled-Trajectories has it, of a recorded completion."""
    whole = json.loads((RECORDED / f"openhands_{name}.json").read_text())
    messages = [*whole["messages"], whole["response"]["choices"][0]["message"]]
    row = {"messages": messages, "tools": whole["kwargs"]["tools"], "instance_id": name, "resolved": True}
    return row | {"test_result": {"git_patch": "diff --git a/x b/x\n"}} | values


def imported(tmp_path: Path, *rows: dict[str, Any], instances: list[Instance] | None = None) -> list[Rollout]:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return [rollout for rollout, _ in rollouts(read(tmp_path / "rows.jsonl"), "teacher", instances or [])]


def test_calls_of_functions_become_text_that_reads_as_the_same_calls(tmp_path: Path) -> None:
    (rollout,) = imported(tmp_path, sampled())
    row = sampled()
    calls = [message["tool_calls"][0]["function"] for message in row["messages"] if message.get("tool_calls")]
    found = [call for m in rollout.messages if m.role == "assistant" for _, call in [parse(m.content)] if call]
    assert [(call.name, call.arguments) for call in found] == [
        (call["name"], json.loads(call["arguments"])) for call in calls
    ]
    assert rollout.messages[0].content.startswith("You are OpenHands agent")
    assert "str_replace_editor: Custom editing tool" in rollout.messages[0].content
    assert "  path (string, required): Absolute path" in rollout.messages[0].content
    assert rollout.messages[3].content.startswith("EXECUTION RESULT of [execute_bash]:\nls -R")
    assert (rollout.scaffold, rollout.policy, rollout.patch, rollout.turns) == (
        "codeact",
        "teacher",
        "diff --git a/x b/x\n",
        10,
    )


def test_a_reply_with_several_calls_becomes_a_message_for_each(tmp_path: Path) -> None:
    def call(name: str) -> dict[str, Any]:
        return {"id": name, "type": "function", "function": {"name": "execute_bash", "arguments": '{"command": "ls"}'}}

    messages = [
        {"role": "user", "content": "Do it."},
        {"role": "assistant", "content": "Both.", "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "content": "a", "name": "execute_bash", "tool_call_id": "1"},
        {"role": "tool", "content": "b", "name": "execute_bash", "tool_call_id": "2"},
    ]
    (rollout,) = imported(tmp_path, {"messages": messages, "instance_id": "a__a-1"})
    assert [message.role for message in rollout.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert rollout.messages[1].content.startswith("Both.\n\n<function=execute_bash>")
    assert rollout.messages[3].content.startswith("<function=execute_bash>")


def test_rows_of_text_stay_as_they_are_and_find_their_instance_by_its_issue(tmp_path: Path) -> None:
    issue = INSTANCE.model_copy(update={"problem_statement": "It is\r\nbroken."})
    other = INSTANCE.model_copy(update={"instance_id": "other", "problem_statement": "Something else."})
    messages = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "<pr_description>\nIt is\nbroken.\n</pr_description>"},
        {"role": "assistant", "content": "<function=finish>\n</function>"},
    ]
    (rollout,) = imported(tmp_path, {"messages": messages, "tools": None}, instances=[issue, other])
    assert rollout.instance_id == issue.instance_id
    assert [message.model_dump() for message in rollout.messages] == messages
    assert (rollout.patch, rollout.error) == ("", "the published row does not tell its patch")
    with pytest.raises(SwedagError, match=r"rows.jsonl:1: .*none of --instances has its issue"):
        imported(tmp_path, {"messages": messages}, instances=[other])


def test_runs_are_numbered_in_the_order_of_the_rows_and_ids_take_the_instances_spelling(tmp_path: Path) -> None:
    spelled = INSTANCE.model_copy(update={"instance_id": "Astropy__astropy-12907"})
    found = imported(tmp_path, sampled(), sampled(resolved=False), instances=[spelled])
    assert [(row.instance_id, row.run) for row in found] == [
        ("Astropy__astropy-12907", 0),
        ("Astropy__astropy-12907", 1),
    ]
    with pytest.raises(SwedagError, match="no instance astropy__astropy-12907 in --instances"):
        imported(tmp_path, sampled(), instances=[INSTANCE])


def test_parquet_files_and_published_verdicts(tmp_path: Path) -> None:
    rows = [sampled(), sampled(resolved=False), sampled(resolved=False, test_result={"git_patch": ""})]
    for row in rows:
        row["messages"] = [{"role": m["role"], "content": str(m.get("content") or "")} for m in row["messages"][:3]]
        row["tools"] = None
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    main([tmp_path / "rows.parquet"], "teacher", tmp_path / "rollouts.jsonl", None, tmp_path / "grades.jsonl")
    assert [row.outcome for row in read_jsonl(tmp_path / "grades.jsonl", Grade)] == [
        "resolved",
        "unresolved",
        "empty_patch",
    ]
    assert len(read_jsonl(tmp_path / "rollouts.jsonl", Rollout)) == 3


def test_rows_without_a_verdict_give_no_grades(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [sampled(resolved=None)])
    with pytest.raises(SwedagError, match="1 of 1 rows carry no verdict"):
        main([tmp_path / "rows.jsonl"], "teacher", tmp_path / "out.jsonl", None, tmp_path / "grades.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_trajectories_of_mini_swe_agent_old_and_new(tmp_path: Path) -> None:
    old = tmp_path / "a__a-1.traj.json"
    old.write_text((RECORDED / "mini_github_issue.traj.json").read_text())
    new = tmp_path / "b__b-2.traj.json"
    info = {"exit_status": "LimitsExceeded", "submission": "", "model_stats": {}}
    new.write_text(
        json.dumps({"messages": json.loads(old.read_text()), "info": info, "trajectory_format": "mini-swe-agent-1"})
    )
    first, second = (rollout for rollout, _ in rollouts([*read(old), *read(new)], "teacher", []))
    assert (first.instance_id, first.exit, first.error) == (
        "a__a-1",
        "submitted",
        "the published row does not tell its patch",
    )
    assert (second.instance_id, second.exit, second.error) == ("b__b-2", "max_turns", "")
    assert first.messages == second.messages
    assert first.scaffold == "mini"


def test_calls_of_the_bash_tool_in_a_mini_trajectory_become_its_text_form(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls\\npwd"}'}}
    messages = [
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "m.py", "tool_call_id": "1"},
        {"role": "exit", "content": "", "extra": {}},
    ]
    info = {"exit_status": "Submitted", "submission": "diff"}
    (tmp_path / "x.traj.json").write_text(json.dumps({"messages": messages, "info": info, "instance_id": "a__a-1"}))
    ((rollout, _),) = rollouts(read(tmp_path / "x.traj.json"), "teacher", [])
    assert [(message.role, message.content) for message in rollout.messages] == [
        ("assistant", "I look.\n\n```mswea_bash_command\nls\npwd\n```"),
        ("user", "m.py"),
    ]
    assert (rollout.instance_id, rollout.patch) == ("a__a-1", "diff")


def test_predictions_are_rollouts_without_messages(tmp_path: Path) -> None:
    rows = [{"instance_id": "a__a-1", "model_name_or_path": "m", "model_patch": None}]
    write_jsonl(tmp_path / "preds.jsonl", rows)
    (tmp_path / "preds.json").write_text(json.dumps(rows))
    for name in ("preds.jsonl", "preds.json"):
        ((rollout, verdict),) = rollouts(read(tmp_path / name), "m", [])
        assert (rollout.instance_id, rollout.messages, rollout.patch, verdict) == ("a__a-1", [], "", None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "rows.jsonl:1: not JSON"),
        ("[]", "rows.jsonl:1: a row is an object"),
        ('{"text": "a"}', r"rows.jsonl:1: neither a trajectory .* its columns are text"),
        ('{"messages": [{"role": "robot"}]}', "rows.jsonl:1: messages.0.role: Input should be"),
        ('{"messages": [{"role": "tool", "name": "bash", "tool_call_id": "1"}]}', "a result of bash without its call"),
    ],
)
def test_a_row_of_another_kind_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(SwedagError, match=problem):
        read(tmp_path / "rows.jsonl")


def test_rows_of_other_instances_are_left_out_where_asked(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [sampled(), sampled(instance_id="other__other-1"), sampled(instance_id=None)])
    published = read(tmp_path / "rows.jsonl")
    known = [INSTANCE.model_copy(update={"instance_id": ASTROPY})]
    assert len(rollouts(published, "teacher", known, skip_unknown=True)) == 1
    with pytest.raises(SwedagError, match=r"rows.jsonl:2: no instance other__other-1"):
        rollouts(published, "teacher", known)


@pytest.mark.parametrize(
    ("name", "repo", "version"), [(ASTROPY, "astropy/astropy", "4.3"), (DJANGO, "django/django", "3.0")]
)
def test_templates_ask_in_the_words_of_the_published_trajectory(
    tmp_path: Path, name: str, repo: str, version: str
) -> None:
    row = sampled(name)
    question = "\n".join(part["text"] for part in row["messages"][1]["content"])
    issue = question.split("<pr_description>\n")[1].split("\n</pr_description>")[0]
    instance = INSTANCE.model_copy(
        update={"instance_id": name, "problem_statement": issue, "repo": repo, "version": version}
    )
    write_jsonl(tmp_path / "rows.jsonl", [row])
    write_jsonl(tmp_path / "instances.jsonl", [instance])
    files = [tmp_path / place for place in ("rollouts.jsonl", "instances.jsonl", "scaffold.yaml")]
    main([tmp_path / "rows.jsonl"], "teacher", files[0], files[1], templates=files[2])
    settings = CodeActSettings.model_validate({"kind": "codeact"} | yaml.safe_load(files[2].read_text()))
    published = read_jsonl(files[0], Rollout)[0].messages
    assert opening(instance, settings) == tuple(published[:2])
    other = INSTANCE.model_copy(update={"problem_statement": "{{ It }} is broken."})
    _, task = opening(other, settings)
    assert "<pr_description>\n{{ It }} is broken.\n</pr_description>" in task.content
    assert task.content.startswith("<uploaded_files>\n/workspace/pkg__1.0\n")
    assert "in the directory pkg__1.0." in task.content
    assert repo.replace("/", "__") not in task.content


def test_templates_need_the_instance_of_a_trajectory(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [sampled()])
    with pytest.raises(SwedagError, match=r"--templates: needs .* its instance"):
        main([tmp_path / "rows.jsonl"], "teacher", tmp_path / "out.jsonl", templates=tmp_path / "scaffold.yaml")
    assert not (tmp_path / "out.jsonl").exists()


def test_trajectories_may_begin_in_the_words_of_our_scaffold(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [sampled()])
    published = read(tmp_path / "rows.jsonl")
    instance = INSTANCE.model_copy(update={"instance_id": ASTROPY, "repo": "astropy/astropy", "version": "4.3"})
    (theirs, _), (ours, _) = (rollouts(published, "t", [instance], words=words)[0] for words in ("published", "ours"))
    assert ours.messages[2:] == theirs.messages[2:]
    assert ours.messages[:2] == list(opening(instance, CodeActSettings(example=False)))
    assert "/workspace/astropy__astropy__4.3" in ours.messages[1].content
    assert "/workspace/astropy__astropy__4.3" in ours.messages[2].content
    with pytest.raises(SwedagError, match=r"--words ours: needs --instances"):
        main([tmp_path / "rows.jsonl"], "t", tmp_path / "out.jsonl", words="ours")


def test_only_codeact_trajectories_can_be_put_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "a__a-1.traj.json").write_text((RECORDED / "mini_github_issue.traj.json").read_text())
    instance = INSTANCE.model_copy(update={"instance_id": "a__a-1"})
    with pytest.raises(SwedagError, match=r"no CodeAct trajectory .* keep its own words"):
        rollouts(read(tmp_path / "a__a-1.traj.json"), "t", [instance], words="ours")
