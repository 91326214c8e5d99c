"""Scaffolds driven by recorded answers: the same steps, the same patch. No model, no sandbox."""

import json
import re
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swedag.errors import SwedagError
from swedag.instances import Instance, Target
from swedag.scaffolds import MiniSettings, SingleEditSettings, begin
from swedag.scaffolds.protocol import Ask, Attempt, ContextFullError, Execute, Executed, Finish, ReadFile, Reply, Step
from tests.unit.repository import Repository

SOURCE = """def total(items):
    result = 0
    for item in items:
        result -= item
    return result
"""
INSTANCE = Instance(
    instance_id="pkg-1.0.train-000",
    repo="pkg",
    version="1.0",
    problem_statement="total returns a wrong result",
    patch="",
    FAIL_TO_PASS=["tests/test_m.py::test_total"],
    PASS_TO_PASS=[],
    environment="pkg",
    source="sdist:pkg==1.0",
    test_command="pytest",
    test_files=["tests/test_m.py"],
    target=Target(path="pkg/m.py", function="total", first_line=1, last_line=5),
)


def drive(attempt: Attempt, answer: Callable[[Step], Any]) -> tuple[list[Step], Finish]:
    """All steps of an attempt, answered by `answer` (an exception that it returns is thrown in), and its end."""
    steps = []
    try:
        step = next(attempt)
        while True:
            steps.append(step)
            given = answer(step)
            step = attempt.throw(given) if isinstance(given, Exception) else attempt.send(given)
    except StopIteration as stop:
        return steps, stop.value


def single_edit(*replies: Any) -> tuple[list[Step], Finish]:
    waiting = iter(replies)
    return drive(
        begin(INSTANCE, SingleEditSettings()),
        lambda step: SOURCE if isinstance(step, ReadFile) else next(waiting),
    )


def test_single_edit_reads_the_file_asks_once_and_makes_a_patch() -> None:
    steps, finish = single_edit(Reply("4| -= => +="))
    read, ask = steps
    assert read == ReadFile("pkg/m.py")
    assert isinstance(ask, Ask)
    assert "total returns a wrong result" in ask.messages[-1].content
    assert "4|         result -= item" in ask.messages[-1].content
    assert finish.exit == "submitted"
    assert finish.patch.startswith("diff --git a/pkg/m.py b/pkg/m.py\n--- a/pkg/m.py\n+++ b/pkg/m.py\n")
    assert "-        result -= item\n+        result += item\n" in finish.patch


@pytest.mark.parametrize(
    ("reply", "exit", "remark"),
    [
        (Reply("The bug is fixed."), "submitted", "the reply is not an edit"),
        (Reply(""), "submitted", "the reply is not an edit"),
        (Reply("9| x => y"), "submitted", "the edit does not fit the function"),
        (Reply("no edit"), "submitted", ""),
        (Reply("4| -= => +=", truncated=True), "max_tokens", ""),
        (ContextFullError("5000 tokens do not fit"), "context", "5000 tokens do not fit"),
    ],
)
def test_single_edit_without_a_usable_edit_gives_an_empty_patch(reply: Any, exit: str, remark: str) -> None:
    _, finish = single_edit(reply)
    assert (finish.patch, finish.exit, finish.remark) == ("", exit, remark)


def test_single_edit_needs_a_target() -> None:
    attempt = begin(INSTANCE.model_copy(update={"target": None}), SingleEditSettings())
    with pytest.raises(SwedagError, match=r"pkg-1\.0\.train-000: .*target"):
        next(attempt)


def bash(command: str) -> Reply:
    return Reply(f"THOUGHT: on with it.\n\n```mswea_bash_command\n{command}\n```")


SUBMIT = bash("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && cat patch.txt")
PATCH = "diff --git a/pkg/m.py b/pkg/m.py\n"


def mini(*replies: Any, run: Callable[[Execute], Executed], **settings: Any) -> tuple[list[Step], Finish]:
    waiting = iter(replies)
    return drive(
        begin(INSTANCE, MiniSettings(**settings)),
        lambda step: run(step) if isinstance(step, Execute) else next(waiting),
    )


def shell(step: Execute) -> Executed:
    submitting = "COMPLETE_TASK" in step.command
    return Executed(f"COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n{PATCH}" if submitting else "m.py\n", 0)


def test_mini_runs_each_command_in_a_shell_of_its_own_and_submits() -> None:
    steps, finish = mini(bash("ls pkg"), SUBMIT, run=shell)
    first, listing, second, _ = steps
    assert isinstance(first, Ask)
    assert [message.role for message in first.messages] == ["system", "user"]
    assert "total returns a wrong result" in first.messages[1].content
    assert isinstance(listing, Execute)
    assert listing.command.startswith("cd /testbed && PAGER=cat ")
    assert listing.command.endswith(" bash -c 'ls pkg'")
    assert isinstance(second, Ask)
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "user"]
    assert second.messages[-1].content == "<returncode>0</returncode>\n<output>\nm.py\n</output>"
    assert finish == Finish(PATCH, "submitted")


def test_mini_tells_the_model_of_a_bad_reply_and_stops_at_the_third_in_a_row() -> None:
    steps, finish = mini(Reply("I fixed it."), Reply(""), Reply("Done!"), run=shell)
    assert isinstance(steps[1], Ask)
    assert "Format error" in steps[1].messages[-1].content
    assert (finish.exit, finish.remark, finish.patch) == ("stuck", "RepeatedFormatError", "")


def test_mini_tells_a_cut_off_reply_from_a_bad_one() -> None:
    steps, _ = mini(Reply("THOUGHT: long", truncated=True), SUBMIT, run=shell)
    assert isinstance(steps[1], Ask)
    assert "reached the output token limit" in steps[1].messages[-1].content


def test_mini_reports_a_command_that_timed_out() -> None:
    steps, _ = mini(
        bash("sleep 100"), SUBMIT, run=lambda s: shell(s) if "COMPLETE" in s.command else Executed("", None, True)
    )
    assert isinstance(steps[2], Ask)
    assert "timed out after 60 seconds" in steps[2].messages[-1].content
    assert "<returncode>-1</returncode>" in steps[2].messages[-1].content


@pytest.mark.parametrize("salvage", [False, True])
def test_mini_ends_at_the_turn_limit_and_may_salvage_the_diff(tmp_path: Path, salvage: bool) -> None:
    repository, replies = Repository(tmp_path, {"m.py": "x = 1\n"}), iter([bash("ls"), bash("echo y = 2 >m.py")])
    steps, finish = drive(
        begin(INSTANCE, MiniSettings(max_turns=2, salvage=salvage)),
        lambda step: next(replies) if isinstance(step, Ask) else repository.answer(step),
    )
    assert sum(isinstance(step, Ask) for step in steps) == 2
    assert (finish.exit, "-x = 1\n+y = 2\n" in finish.patch) == ("max_turns", salvage)


def test_mini_ends_when_the_context_is_full() -> None:
    _, finish = mini(bash("ls"), ContextFullError("full"), run=shell)
    assert finish.exit == "context"


def test_an_abandoned_mini_attempt_leaves_no_thread() -> None:
    before = threading.active_count()
    attempt = begin(INSTANCE, MiniSettings())
    next(attempt)
    attempt.close()
    assert threading.active_count() == before


RECORDED = Path(__file__).parents[1] / "data/trajectories/mini_github_issue.traj.json"


def test_the_replies_of_a_recorded_mini_run_lead_to_its_actions_observations_and_patch(tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text())
    replies = [message["content"] for message in recorded if message["role"] == "assistant"]
    seen = [message["content"] for message in recorded if message["role"] == "user"]
    source = 'def division(a: float, b: float) -> float\n    return a/b\n\n\nif __name__ == "__main__":\n'
    source = f"#!/usr/bin/env python3\n\n\n{source}    print(division(123, 15))\n\n"
    repository = Repository(tmp_path, {"tests/missing_colon.py": source})
    repository.place("tests/missing_colon.py").chmod(0o755)
    repository.git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--all", "--message", "mode")
    waiting = iter(replies)

    def answer(step: Step) -> Any:
        return Reply(next(waiting)) if isinstance(step, Ask) else repository.answer(step)

    steps, finish = drive(begin(INSTANCE, MiniSettings()), answer)
    commands = [re.findall(r"```mswea_bash_command\n(.*?)\n```", reply, re.S)[0] for reply in replies]
    run = [step.command for step in steps if isinstance(step, Execute)]
    assert all(command.endswith(f" bash -c {shlex.quote(said)}") for command, said in zip(run, commands, strict=True))
    asks = [step for step in steps if isinstance(step, Ask)]
    # What ls prints (dates, owners) and the folder of the recording are another machine's.
    for ask, observation in zip(asks[1:], seen[1:], strict=False):
        if not re.search(r"drwx|Users", observation):
            assert ask.messages[-1].content == observation
    index = re.compile(r"^index .*\n", re.M)
    assert finish.exit == "submitted"
    assert index.sub("", finish.patch).strip() == index.sub("", seen[-1]).strip()
    assert finish.repeated is False
