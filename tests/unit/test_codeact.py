"""CodeAct: calls as text, the editor, the loop, and two recorded runs of a real model gone through again."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swedag.errors import SwedagError
from swedag.scaffolds import CodeActSettings, begin
from swedag.scaffolds.codeact import editor
from swedag.scaffolds.codeact.agent import CUT
from swedag.scaffolds.codeact.calls import Call, CallError, parse, render
from swedag.scaffolds.protocol import Ask, ContextFullError, Execute, Executed, Finish, Load, Reply, Step, Store
from tests.unit.repository import Repository
from tests.unit.test_scaffolds import INSTANCE, drive

RECORDED = Path(__file__).parents[1] / "data/trajectories"
FINISH = "Done.\n\n<function=finish>\n"


def bash(command: str) -> str:
    return f"<function=execute_bash>\n<parameter=command>{command}</parameter>\n"


def edit(**arguments: Any) -> str:
    return render("", Call("str_replace_editor", arguments)).removesuffix("</function>")


# --- calls as text


@pytest.mark.parametrize(
    "call",
    [
        Call("execute_bash", {"command": "ls"}),
        Call("execute_bash", {"command": "cat <<'E' > a.py\n    x = 1\nE\n"}),
        Call("str_replace_editor", {"command": "str_replace", "path": "/a", "old_str": "    x = 1", "new_str": "\n"}),
        Call("str_replace_editor", {"command": "view", "path": "/a", "view_range": [1, -1]}),
        Call("str_replace_editor", {"command": "insert", "path": "/a", "insert_line": 3, "new_str": "\n\ny\n\n"}),
        Call("execute_bash", {"command": "grep '<parameter=' a.py"}),
        Call("finish"),
    ],
)
@pytest.mark.parametrize("cut", ["", "</function>", "function>"])
def test_a_call_is_read_as_it_was_written_even_when_the_stop_word_cut_it_off(call: Call, cut: str) -> None:
    assert parse(render("I think.", call).removesuffix(cut)) == ("I think.", call)


def test_values_may_stand_on_lines_of_their_own() -> None:
    reply = "<function=str_replace_editor>\n<parameter=command>\nview\n</parameter>\n<parameter=path>\n/a\n</parameter>"
    assert parse(reply) == ("", Call("str_replace_editor", {"command": "view", "path": "/a"}))


def test_only_the_first_of_several_calls_counts() -> None:
    assert parse(f"a\n{bash('ls')}</function>\nb\n{bash('rm -r .')}</function>") == (
        "a",
        Call("execute_bash", {"command": "ls"}),
    )


def test_a_reply_without_a_call_is_a_message() -> None:
    assert parse("I fixed it.") == ("I fixed it.", None)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ("<function=python>\n<parameter=code>1</parameter>\n", "Function 'python' not found .* execute_bash, finish"),
        ("<function=execute_bash>\n", "Missing required parameters for function 'execute_bash': command"),
        ("<function=execute_bash>\n<parameter=command>ls", "is cut off: a parameter has no </parameter>"),
        (edit(command="str_replace", path="/a", old_str="x = 1") + "<parameter=new_str>\nx =", "is cut off"),
        ("<function=finish>\n<parameter=message>done</parameter>\n", "Parameter 'message' is not allowed"),
        (edit(command="delete", path="/a"), "Parameter 'command' is expected to be one of view, create"),
        (edit(command="insert", path="/a", insert_line="two"), "Parameter 'insert_line' is expected to be an integer"),
        (edit(command="view", path="/a", view_range="1-3"), "Parameter 'view_range' is expected to be an array"),
        (edit(command="view", path="/a", view_range="7"), "Parameter 'view_range' is expected to be an array"),
        (edit(command="view"), "Missing required parameters .*: path"),
    ],
)
def test_a_wrong_call_is_refused_with_the_reason(reply: str, complaint: str) -> None:
    with pytest.raises(CallError, match=complaint):
        parse(reply)


# --- the editor


def test_a_replacement_shows_four_lines_around_it() -> None:
    text = "\n".join(f"line {n}" for n in range(1, 21))
    edited = editor.replaced("/a", text, "line 10\n", "ten\nand a half\n")
    assert edited.text == text.replace("line 10\n", "ten\nand a half\n")
    assert "     6\tline 6\n" in edited.observation
    assert "line 5" not in edited.observation
    assert "    11\tand a half\n" in edited.observation


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("x = 3", "y", "did not appear verbatim in /a"),
        ("x", "y", r"Multiple occurrences of old_str `x` in lines \[1, 3\]"),
        (None, "y", "Parameter `old_str` is required"),
        ("x = 1", "x = 1", "must be different"),
    ],
)
def test_a_replacement_must_stand_exactly_once(old: str | None, new: str, complaint: str) -> None:
    with pytest.raises(editor.EditorError, match=complaint):
        editor.replaced("/a", "x = 1\n\nx = 2\n", old, new)


def test_a_replacement_across_lines_that_is_not_unique_names_its_first_lines() -> None:
    with pytest.raises(editor.EditorError, match=r"in lines \[1, 4\]"):
        editor.replaced("/a", "a\nb\n\na\nb\n", "a\nb", "c")


def test_insertion_puts_lines_after_the_given_one() -> None:
    assert editor.inserted("/a", "1\n2\n", 0, "zero").text == "zero\n1\n2\n"
    assert editor.inserted("/a", "1\n2\n", 2, "three\nfour").text == "1\n2\nthree\nfour\n"
    with pytest.raises(editor.EditorError, match=r"insert_line. parameter: 4. .*\[0, 3\]"):
        editor.inserted("/a", "1\n2\n", 4, "x")


@pytest.mark.parametrize(
    ("view_range", "complaint"),
    [
        ([0, 2], "first element `0`"),
        ([1, 9], "second element `9` should be smaller"),
        ([3, 2], "should be greater"),
        ([1], "two integers"),
        ([1, "x"], "two integers"),
    ],
)
def test_a_range_outside_the_file_is_refused(view_range: list[Any], complaint: str) -> None:
    with pytest.raises(editor.EditorError, match=complaint):
        editor.view("/a", "1\n2\n3", view_range)


def test_a_long_file_is_clipped() -> None:
    shown = editor.view("/a", "x" * 20_000)
    assert shown.endswith("line numbers of what you are looking for.</NOTE>\n")
    assert shown.count("x") < 16_100


# --- the loop


def run(repository: Repository, *replies: Any, **settings: Any) -> tuple[list[Step], Finish]:
    waiting = iter(replies)

    def answer(step: Step) -> Any:
        if isinstance(step, Ask):
            reply = next(waiting)
            return Reply(reply) if isinstance(reply, str) else reply
        return repository.answer(step)

    return drive(begin(INSTANCE, CodeActSettings(**settings)), answer)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path, {"m.py": "def total(items):\n    return 0\n", "docs/a.txt": "a\n"})


def asked(steps: list[Step]) -> list[Ask]:
    return [step for step in steps if isinstance(step, Ask)]


def last_observation(steps: list[Step]) -> str:
    return asked(steps)[-1].messages[-1].content


def test_a_run_edits_and_gives_the_diff_of_the_repository(repository: Repository) -> None:
    path = "/workspace/pkg__1.0/m.py"
    steps, finish = run(
        repository,
        bash("ls"),
        edit(command="str_replace", path=path, old_str="return 0", new_str="return sum(items)"),
        edit(command="create", path="/testbed/reproduce.py", file_text="print(1)"),
        FINISH,
    )
    system, task = asked(steps)[0].messages
    assert (system.role, task.role) == ("system", "user")
    assert "total returns a wrong result" in task.content
    assert "/workspace/pkg__1.0" in task.content
    assert asked(steps)[0].stop == ("</function",)
    assert finish.exit == "submitted"
    assert "-    return 0\n+    return sum(items)\n" in finish.patch
    assert "+++ b/reproduce.py" in finish.patch
    assert [message.role for message in finish.conversation] == ["system", *["user", "assistant"] * 4]
    assert finish.conversation[-1].content == "Done.\n\n<function=finish>\n</function>"


def test_commits_of_the_agent_do_not_hide_its_changes(repository: Repository) -> None:
    commit = "echo x > new.txt; git add -A; git -c user.name=x -c user.email=x@x commit -qm mine"
    _, finish = run(repository, bash(f"cd /testbed; {commit}"), FINISH)
    assert "+++ b/new.txt" in finish.patch


def test_the_result_of_a_command_is_shown_as_in_a_terminal(repository: Repository) -> None:
    steps, _ = run(repository, bash("echo a; echo b; exit 3"), FINISH)
    assert re.fullmatch(
        r"EXECUTION RESULT of \[execute_bash\]:\necho a; echo b; exit 3\r\na\r\nb\[Python Interpreter: .*\]\n"
        r"root@openhands-workspace:/testbed # \n\[Command finished with exit code 3\]",
        last_observation(steps),
    )


def test_a_long_result_loses_its_middle(repository: Repository) -> None:
    steps, _ = run(repository, bash("seq 100000"), FINISH)
    shown = last_observation(steps).removeprefix("EXECUTION RESULT of [execute_bash]:\n")
    body, _, code = shown.rpartition("\n")
    assert len(body) == 30_000 + len(CUT)
    assert body.startswith("seq 100000\r\n1\r\n2\r\n")
    assert "100000[Python Interpreter" in body
    assert code == "[Command finished with exit code 0]"


def test_a_command_killed_at_its_time_limit_says_so(repository: Repository) -> None:
    def answer(step: Step) -> Any:
        if isinstance(step, Ask):
            return Reply(bash("sleep 1000") if len(step.messages) == 2 else FINISH)
        if isinstance(step, Execute) and "sleep" in step.command:
            assert step.seconds == 300
            return Executed("", None, timed_out=True)
        return repository.answer(step)

    steps, _ = drive(begin(INSTANCE, CodeActSettings()), answer)
    assert "killed after 300 seconds" in last_observation(steps)
    assert last_observation(steps).endswith("exit code -1]")


@pytest.mark.parametrize("command", ["", "ctrl+c"])
def test_there_is_no_running_command_to_interrupt(repository: Repository, command: str) -> None:
    steps, _ = run(repository, bash(command), FINISH)
    assert "no running command" in last_observation(steps)


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ({"command": "view", "path": "/testbed/m.py", "view_range": [2, 2]}, "     2\t    return 0"),
        ({"command": "view", "path": "/testbed"}, "/testbed/docs\n/testbed/docs/a.txt\n/testbed/m.py"),
        (
            {"command": "view", "path": "/testbed", "view_range": [1, 2]},
            "not allowed when `path` points to a directory",
        ),
        ({"command": "view", "path": "m.py"}, "Maybe you meant /m.py?"),
        ({"command": "view", "path": "/testbed/none.py"}, "The path /testbed/none.py does not exist"),
        ({"command": "create", "path": "/testbed/m.py", "file_text": "x"}, "File already exists at: /testbed/m.py"),
        ({"command": "create", "path": "/testbed/n.py"}, "Parameter `file_text` is required for command: create"),
        ({"command": "insert", "path": "/testbed/docs", "insert_line": 1}, "only the `view` command"),
        ({"command": "undo_edit", "path": "/testbed/m.py"}, "No edit history found for /testbed/m.py"),
    ],
)
def test_the_editor_shows_files_and_folders_and_says_what_is_wrong(
    repository: Repository, call: dict[str, Any], shown: str
) -> None:
    steps, finish = run(repository, edit(**call), FINISH)
    assert shown in last_observation(steps)
    assert finish.patch == ""


def test_a_file_that_is_not_text_cannot_be_edited(repository: Repository) -> None:
    repository.place("m.bin").write_bytes(b"\xff\xfe\x00")
    steps, _ = run(repository, edit(command="view", path="/testbed/m.bin"), FINISH)
    assert "ERROR:\nRan into 'utf-8' codec" in last_observation(steps)


def test_a_file_keeps_its_line_ends(repository: Repository) -> None:
    repository.place("dos.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    run(repository, edit(command="str_replace", path="/testbed/dos.py", old_str="1\nb", new_str="3\nb"), FINISH)
    assert repository.place("dos.py").read_bytes() == b"a = 3\r\nb = 2\r\n"


def test_edits_are_undone_one_by_one(repository: Repository) -> None:
    replace = {"command": "str_replace", "path": "/testbed/m.py"}
    steps, finish = run(
        repository,
        edit(**replace, old_str="return 0", new_str="return 1"),
        edit(**replace, old_str="return 1", new_str="return 2"),
        edit(command="undo_edit", path="/testbed/m.py"),
        edit(command="undo_edit", path="/testbed/m.py"),
        FINISH,
    )
    assert "undone successfully. Here's the result" in last_observation(steps)
    assert finish.patch == ""


def test_a_wrong_call_is_an_error_to_read_and_the_run_goes_on(repository: Repository) -> None:
    steps, finish = run(repository, "<function=python>\n", FINISH)
    assert [message.role for message in asked(steps)[-1].messages] == ["system", "user", "user"]
    assert last_observation(steps).endswith("finish, str_replace_editor\n[Error occurred in processing last action]")
    assert finish.exit == "submitted"


def test_the_second_nudge_offers_to_give_up(repository: Repository) -> None:
    steps, finish = run(repository, "I am done.", "Really, I am.", FINISH)
    first, second = (ask.messages[-1].content for ask in asked(steps)[1:])
    assert first.startswith("Please continue")
    assert "give up" not in first
    assert second == first + "If you cannot go on, call finish to give up.\n"
    assert finish.exit == "submitted"


def test_four_equal_steps_are_a_loop(repository: Repository) -> None:
    steps, finish = run(repository, *[bash("ls")] * 4)
    assert (finish.exit, finish.remark, finish.repeated) == ("stuck", "same action and observation", True)
    assert len(asked(steps)) == 4


def test_three_equal_actions_are_what_the_paper_calls_stuck(repository: Repository) -> None:
    _, finish = run(repository, *[f"{word} {bash('ls')}" for word in "abc"], max_turns=3)
    assert (finish.exit, finish.repeated) == ("max_turns", True)


def test_the_run_ends_at_its_budget_of_tokens(repository: Repository) -> None:
    replies = [Reply(bash("ls"), tokens=60), Reply(bash("pwd"), tokens=60)]
    _, finish = run(repository, *replies, max_completion_tokens=100)
    assert finish.exit == "max_tokens"


def test_a_full_context_loses_the_older_half_but_never_the_task(repository: Repository) -> None:
    replies = [bash("echo 1"), bash("echo 2"), bash("echo 3"), ContextFullError("full"), FINISH]
    steps, finish = run(repository, *replies)
    kept = [message.content for message in asked(steps)[-1].messages]
    assert len(asked(steps)[-2].messages) == 8
    assert kept[:2] == [message.content for message in asked(steps)[0].messages]
    assert [message.role for message in asked(steps)[-1].messages[2:]] == ["assistant", "user"] * 2
    assert "echo 2" in kept[2]
    assert finish.exit == "submitted"


def test_a_context_that_is_full_from_the_start_ends_the_run(repository: Repository) -> None:
    _, finish = run(repository, ContextFullError("9000 tokens"))
    assert (finish.exit, finish.remark) == ("context", "9000 tokens")


def test_a_full_context_may_end_the_run_with_its_patch(repository: Repository) -> None:
    make = edit(command="create", path="/testbed/new.py", file_text="1")
    _, finish = run(repository, make, bash("ls"), bash("ls"), ContextFullError("full"), context_full="end")
    assert finish.exit == "context"
    assert "+++ b/new.py" in finish.patch


def test_the_example_can_be_left_out(repository: Repository) -> None:
    with_it, _ = run(repository, FINISH)
    without, _ = run(repository, FINISH, example=False)
    assert asked(with_it)[0].messages[1].content.endswith(asked(without)[0].messages[1].content)
    assert "the example begins" in asked(with_it)[0].messages[1].content


def test_a_workspace_that_cannot_be_made_is_an_error_of_the_set_up() -> None:
    attempt = begin(INSTANCE, CodeActSettings())
    assert isinstance(next(attempt), Execute)
    with pytest.raises(SwedagError, match=r"pkg-1.0.train-000: .*Read-only.*workspace: /testbed"):
        attempt.send(Executed("mkdir: /workspace: Read-only file system", 1))


def test_a_template_with_an_unknown_word_is_an_error(repository: Repository) -> None:
    with pytest.raises(SwedagError, match=r"issue.* it may use task, workspace"):
        run(repository, FINISH, instance_template="{{ issue }}")


# --- recorded runs


def recorded(name: str) -> tuple[list[tuple[str, str, Call | None]], list[str]]:
    """The messages after the task as (role, text, call), and the replies as the server would give them."""
    whole = json.loads((RECORDED / f"openhands_{name}.json").read_text())
    said: list[tuple[str, str, Call | None]] = []
    for message in [*whole["messages"][2:], whole["response"]["choices"][0]["message"]]:
        content = message.get("content") or ""
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        calls = [call["function"] for call in message.get("tool_calls") or []]
        if calls:
            call = Call(calls[0]["name"], json.loads(calls[0]["arguments"]))
            said.append(("assistant", render(text, call), call))
        elif message["role"] == "tool":
            said.append(("user", f"EXECUTION RESULT of [{message['name']}]:\n{text}", None))
        else:
            said.append((message["role"], text, None))
    replies = [text.removesuffix("</function>") for role, text, _ in said if role == "assistant"]
    return said, replies


def shell_of(said: list[tuple[str, str, Call | None]]) -> Callable[[Execute], Executed | None]:
    """Answers the recorded commands in their order with what they printed, and where the shell was after them."""
    results = [
        (call.arguments["command"], observation)
        for (_, _, call), (_, observation, _) in itertools.pairwise(said)
        if call and call.name == "execute_bash"
    ]
    where = ""

    def answer(step: Execute) -> Executed | None:
        nonlocal where
        if step.command.startswith("pwd;"):
            return Executed(where, 0)
        if not results or step.command != results[0][0]:
            return None
        command, observation = results.pop(0)
        parts = re.fullmatch(
            r"EXECUTION RESULT of \[execute_bash\]:\n(.*)\[Python Interpreter: (.*)\]\nroot@openhands-workspace:(.*) # "
            r"\n\[Command finished with exit code (-?\d+)\]",
            observation.replace(CUT, "the middle, which was not recorded " * 1000),
            re.S,
        )
        assert parts
        printed, python, folder, code = parts.groups()
        where = f"{folder}\n{python}\n"
        return Executed(printed.removeprefix(f"{command}\r\n").replace("\r\n", "\n") + "\n", int(code))

    return answer


@pytest.mark.parametrize(
    ("name", "file", "change"),
    [
        (
            "astropy__astropy-12907",
            "astropy/modeling/separable.py",
            "-        cright[-right.shape[0]:, -right.shape[1]:] = 1\n"
            "+        cright[-right.shape[0]:, -right.shape[1]:] = right\n",
        ),
        (
            "django__django-11211",
            "django/contrib/contenttypes/fields.py",
            "-                return (model._meta.pk.get_prep_value(getattr(obj, self.fk_field)),\n"
            "-                        model)\n"
            "+                # Convert both values to the same type for comparison\n"
            "+                pk_field = model._meta.pk\n"
            "+                fk_val = pk_field.to_python(getattr(obj, self.fk_field))\n"
            "+                return (pk_field.get_prep_value(fk_val), model)\n",
        ),
    ],
)
def test_the_replies_of_a_recorded_run_lead_to_its_actions_observations_and_patch(
    tmp_path: Path, name: str, file: str, change: str
) -> None:
    said, replies = recorded(name)
    repository = Repository(tmp_path, {file: source_seen(said, file)})
    shell, waiting = shell_of(said), iter(replies)

    def answer(step: Step) -> Any:
        if isinstance(step, Ask):
            return Reply(next(waiting))
        known = shell(step) if isinstance(step, Execute) else None
        return known if known is not None else repository.answer(step)

    repo, version = name.split("-")[0], {"astropy": "4.3", "django": "3.0"}[name.split("_")[0]]
    instance = INSTANCE.model_copy(update={"repo": repo.replace("__", "/"), "version": version})
    steps, finish = drive(begin(instance, CodeActSettings()), answer)
    nudge = [place for place, message in enumerate(said) if message[0] == "user" and "EXECUTION" not in message[1]]
    for place, (message, (role, text, _)) in enumerate(zip(finish.conversation[2:], said, strict=True)):
        assert message.role == role
        if place not in nudge:
            assert message.content == text
    assert finish.exit == "submitted"
    assert finish.patch.count("diff --git") == 1
    assert "".join(re.findall(r"^[-+] .*\n", finish.patch, re.M)) == change
    assert [step.path for step in steps if isinstance(step, Store)] == [
        call.arguments["path"]
        for _, _, call in said
        if call and call.arguments.get("command") in ("create", "str_replace")
    ]
    assert isinstance(steps[-1], Load)


def source_seen(said: list[tuple[str, str, Call | None]], file: str) -> str:
    """The source file as the agent saw it when it viewed it whole; what was clipped is made up."""
    seen = next(text for role, text, _ in said if role == "user" and "`cat -n` on /workspace/" in text and file in text)
    lines = [line.split("\t", 1)[1] if "\t" in line else "" for line in seen.split("\n")[2:]]
    text, clipped, _ = "\n".join(lines).partition("<response clipped>")
    return text + "\n# more, which was not shown\n" if clipped else text
