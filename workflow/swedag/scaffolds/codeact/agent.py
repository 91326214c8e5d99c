"""The agent's loop: ask, carry out the one call of the reply, show what came of it; until finish or a limit.

As in OpenHands 0.14, with which the paper's policies were sampled (CodeActAgent 2.2):
- a reply without a call is answered by a nudge; from the third message of the user on, it offers to give up;
- a call that cannot be understood is an error for the model to read, and is itself left out of the conversation;
- results of commands lose their middle beyond 30,000 characters;
- when the context is full, the older half of the conversation goes, all but the task;
- a loop is found by `swedag.scaffolds.stuck` before each question.

Unlike there, a command has no standard input and is killed at its time limit instead of being interrupted.
"""

import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jinja2
from pydantic import BaseModel, ConfigDict, Field

from swedag.errors import SwedagError
from swedag.instances import Instance
from swedag.scaffolds.codeact import editor, prompts
from swedag.scaffolds.codeact.calls import STOP, Call, CallError, parse, render
from swedag.scaffolds.codeact.editor import EditorError
from swedag.scaffolds.protocol import (
    Attempt,
    ContextFullError,
    Execute,
    Executed,
    Finish,
    Load,
    Step,
    Store,
    ask,
    repository_diff,
)
from swedag.scaffolds.stuck import Action, Event, Observation, repeated, stuck
from swedag.trajectory import Exit, Message

CUT = "\n[... Observation truncated due to length ...]\n"
LOOK_SECONDS = 60.0


class CodeActSettings(BaseModel):
    """OpenHands' CodeAct agent, as the paper used it: bash, an editor, finish; calls stand as text in the replies."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    early_sandbox: ClassVar[bool] = False

    kind: Literal["codeact"] = Field("codeact", description="The paper's CodeAct agent")
    max_turns: int = Field(100, ge=1, description="Model calls per rollout")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="End when the replies of a rollout together have this many tokens"
    )
    context_full: Literal["halve", "end"] = Field(
        "halve", description="When the context is full, drop the older half of the conversation, or end the rollout"
    )
    command_seconds: float = Field(300, gt=0, description="Time limit of one command")
    max_observation_characters: int = Field(30_000, ge=100, description="Longer results of commands lose their middle")
    example: bool = Field(True, description="Show a worked example before the task")
    workspace: str = Field(
        "/workspace/{repo}__{version}",
        description="Where the agent sees the repository: a link to /testbed in a folder that is made, or /testbed",
    )
    system_template: str | None = Field(None, description="System message (Jinja), tools included, in place of ours")
    instance_template: str | None = Field(
        None, description="First user message (Jinja: `task`, `workspace`) in place of ours"
    )


@dataclass
class _Agent:
    instance: Instance
    settings: CodeActSettings
    workspace: str
    head: str = ""
    turns: int = 0
    tokens: int = 0
    # What was said after the task, each message with the event that it stands for; a nudge is none.
    said: list[tuple[Message, Event | None]] = field(default_factory=list)
    undo: dict[str, list[str]] = field(default_factory=dict)

    def events(self) -> list[Event]:
        return [event for _, event in self.said if event is not None]

    def add(self, role: Literal["assistant", "user"], text: str, event: Event | None = None) -> None:
        self.said.append((Message(role=role, content=text), event))


def attempt(instance: Instance, settings: CodeActSettings) -> Attempt:
    """Needs a sandbox; asks until the agent calls finish, is stuck or reaches a limit."""
    agent = _Agent(instance, settings, workspace_of(instance, settings))
    agent.head = yield from _prepare(agent)
    task = opening(instance, settings)
    exit, remark = yield from _work(agent, task)
    patch, problem = yield from repository_diff(agent.head)
    return Finish(
        patch,
        exit,
        "; ".join(filter(None, (remark, problem))),
        conversation=(*task, *(message for message, _ in agent.said)),
        repeated=repeated(agent.events()),
    )


def workspace_of(instance: Instance, settings: CodeActSettings) -> str:
    """Where the agent sees the repository."""
    return settings.workspace.format(repo=instance.repo.replace("/", "__"), version=instance.version)


def opening(instance: Instance, settings: CodeActSettings) -> tuple[Message, Message]:
    """The system message and the task."""
    words = {"task": instance.problem_statement, "workspace": workspace_of(instance, settings)}
    instance_template = settings.instance_template or prompts.INSTANCE
    return (
        Message(role="system", content=_fill(settings.system_template or prompts.SYSTEM, words)),
        Message(
            role="user",
            content=(prompts.EXAMPLE if settings.example else "") + _fill(instance_template, words),
        ),
    )


def _fill(template: str, words: dict[str, str]) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(template).render(words)
    except jinja2.TemplateError as error:
        raise SwedagError(
            f"scaffold codeact: a template cannot be filled in: {error}; it may use {', '.join(words)}"
        ) from error


def _prepare(agent: _Agent) -> Generator[Step, Any, str]:
    """Make the workspace and go there; the commit at which the repository stands."""
    path = shlex.quote(agent.workspace)
    link = "" if agent.workspace == "/testbed" else f'mkdir -p "$(dirname {path})" && ln -sfn /testbed {path} && '
    made: Executed = yield Execute(f"{link}cd {path} && git rev-parse HEAD", LOOK_SECONDS)
    if made.exit_code != 0:
        raise SwedagError(
            f"{agent.instance.instance_id}: scaffold codeact cannot work in {agent.workspace}: {made.output.strip()}. "
            "Its folder must be writable (`workspace: /testbed` needs no other), and /testbed a git repository"
        )
    return made.output.split()[-1]


def _work(agent: _Agent, task: Sequence[Message]) -> Generator[Step, Any, tuple[Exit, str]]:
    settings = agent.settings
    while True:
        loop = stuck(agent.events())
        if loop:
            return "stuck", loop
        if agent.turns >= settings.max_turns:
            return "max_turns", ""
        if settings.max_completion_tokens and agent.tokens >= settings.max_completion_tokens:
            return "max_tokens", ""
        try:
            reply = yield from ask([*task, *(message for message, _ in agent.said)], STOP)
        except ContextFullError as full:
            if settings.context_full == "end" or not _halve(agent):
                return "context", str(full)
            continue
        agent.turns += 1
        agent.tokens += reply.tokens
        try:
            thought, call = parse(reply.text)
        except CallError as error:
            agent.add("user", f"{error}\n[Error occurred in processing last action]", Observation("error", str(error)))
            continue
        if call is None:
            _nudge(agent, thought)
            continue
        agent.add("assistant", render(thought, call), _action(thought, call))
        if call.name == "finish":
            return "submitted", ""
        observation = yield from _carry_out(agent, call)
        agent.add("user", f"EXECUTION RESULT of [{call.name}]:\n{observation.text}", observation)


def _nudge(agent: _Agent, thought: str) -> None:
    from_user = 1 + sum(message.role == "user" and event is None for message, event in agent.said)
    agent.add("assistant", thought, Action("message", thought))
    agent.add("user", prompts.CONTINUE + (prompts.GIVE_UP if from_user >= 2 else ""))


def _action(thought: str, call: Call) -> Action:
    if call.name == "execute_bash":
        return Action("command", call.arguments["command"], thought)
    return Action("code", f"print(file_editor(**{dict(call.arguments)}))", thought)


def _halve(agent: _Agent) -> bool:
    """Drop the older half (the task counts, and stays), but no result's action; whether anything was dropped."""
    first = max(1, (len(agent.said) + 1) // 2) - 1
    event = agent.said[first][1] if first < len(agent.said) else None
    if first and isinstance(event, Observation) and isinstance(agent.said[first - 1][1], Action):
        first -= 1
    agent.said = agent.said[first:]
    return first > 0


def _carry_out(agent: _Agent, call: Call) -> Generator[Step, Any, Observation]:
    if call.name == "execute_bash":
        return (yield from _bash(agent, call.arguments["command"]))
    try:
        text = yield from _edit(agent, call.arguments)
    except EditorError as error:
        text = f"ERROR:\n{error}"
    return Observation("code", _cut(text.rstrip(), agent.settings.max_observation_characters))


def _bash(agent: _Agent, command: str) -> Generator[Step, Any, Observation]:
    """The result as a terminal shows it: the command, what it printed, the interpreter, the prompt, the exit code."""
    settings = agent.settings
    if "\0" in command or command.strip() in ("", "ctrl+c"):
        code, printed = 1, "There is no running command to read from or to interrupt, and none was given."
    else:
        done: Executed = yield Execute(command, settings.command_seconds)
        code, printed = (-1 if done.exit_code is None else done.exit_code), done.output.rstrip()
        if done.timed_out:
            printed += f"\n[The command was killed after {settings.command_seconds:g} seconds]"
    where: Executed = yield Execute("pwd; command -v python", LOOK_SECONDS)
    folder, python = [*where.output.split("\n"), "", ""][:2]
    shown = "\n".join(filter(None, (command, printed))).replace("\r\n", "\n").replace("\n", "\r\n")
    shown += f"[Python Interpreter: {python}]\nroot@openhands-workspace:{folder} # "
    text = f"{_cut(shown, settings.max_observation_characters)}\n[Command finished with exit code {code}]"
    return Observation("command", text, command, code)


def _cut(text: str, longest: int) -> str:
    half = longest // 2
    return text if len(text) <= longest else text[:half] + CUT + text[-half:]


def _edit(agent: _Agent, arguments: Any) -> Generator[Step, Any, str]:
    """Carry out a call of the editor; EditorError when it cannot be."""
    command, path = arguments["command"], arguments["path"]
    if not path.startswith("/") or "\0" in path:
        raise editor.invalid(
            "path", path, f"The path should be an absolute path, starting with `/`. Maybe you meant /{path}?"
        )
    kind = yield from _kind(path)
    if command == "create":
        if kind != "missing":
            raise editor.invalid(
                "path", path, f"File already exists at: {path}. Cannot overwrite files using command `create`."
            )
        if "file_text" not in arguments:
            raise editor.missing("file_text", command)
        yield from _store(path, arguments["file_text"])
        agent.undo.setdefault(path, []).append(arguments["file_text"])
        return f"File created successfully at: {path}"
    if kind == "missing":
        raise editor.invalid("path", path, f"The path {path} does not exist. Please provide a valid path.")
    if kind == "folder":
        return (yield from _list(command, path, arguments))
    stored = yield from _load(path)
    windows = 0 < stored.count("\n") == stored.count("\r\n")
    before = stored.replace("\r\n", "\n") if windows else stored
    if command == "view":
        return editor.view(path, before, arguments.get("view_range"))
    if command == "undo_edit":
        return (yield from _undo(agent, path))
    if command == "insert":
        edited = editor.inserted(path, before, arguments.get("insert_line"), arguments.get("new_str"))
    else:
        edited = editor.replaced(path, before, arguments.get("old_str"), arguments.get("new_str"))
    yield from _store(path, edited.text.replace("\n", "\r\n") if windows else edited.text)
    agent.undo.setdefault(path, []).append(stored)
    return edited.observation


def _undo(agent: _Agent, path: str) -> Generator[Step, Any, str]:
    if not agent.undo.get(path):
        raise EditorError(f"No edit history found for {path}.")
    text = agent.undo[path].pop()
    yield from _store(path, text)
    return f"Last edit to {path} undone successfully. {editor.numbered(text, path)}"


def _kind(path: str) -> Generator[Step, Any, str]:
    name = shlex.quote(path)
    looked: Executed = yield Execute(
        f"if [ -d {name} ]; then echo folder; elif [ -e {name} ]; then echo file; else echo missing; fi", LOOK_SECONDS
    )
    return (looked.output.split() or ["missing"])[-1]


def _list(command: str, path: str, arguments: Any) -> Generator[Step, Any, str]:
    if command != "view":
        raise editor.invalid(
            "path", path, f"The path {path} is a directory and only the `view` command can be used on directories."
        )
    if arguments.get("view_range"):
        raise editor.invalid(
            "view_range",
            arguments["view_range"],
            "The `view_range` parameter is not allowed when `path` points to a directory.",
        )
    found: Executed = yield Execute(
        f"find -L {shlex.quote(path)} -maxdepth 2 -not -path '*/.*' 2>/dev/null | sort", LOOK_SECONDS
    )
    return f"Here's the files and directories up to 2 levels deep in {path}, excluding hidden items:\n{found.output}"


def _load(path: str) -> Generator[Step, Any, str]:
    content: bytes | None = yield Load(path)
    if content is None:
        raise EditorError(f"{path} cannot be read.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise EditorError(f"Ran into {error} while trying to read {path}") from error


def _store(path: str, text: str) -> Generator[Step, Any, None]:
    problem: str = yield Store(path, text.encode())
    if problem:
        raise EditorError(f"Ran into {problem} while trying to write to {path}")
