"""mini-swe-agent as a scaffold: the package's own agent and prompts; its model and shell are our steps.

The package's agent calls its model and its environment; here those calls come out as steps of a generator. The agent
therefore runs in a thread, which moves only while the generator waits for its next call.

As the package has it, an unusable reply is not part of the conversation that follows, only the complaint about it is;
trajectories show the conversation as the model last saw it.
"""

import importlib
import os
import shlex
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from swedag.instances import Instance
from swedag.scaffolds.protocol import (
    Ask,
    Attempt,
    ContextFullError,
    Execute,
    Executed,
    Finish,
    Reply,
    Step,
    repository_diff,
)
from swedag.scaffolds.stuck import Action, Event, repeated
from swedag.trajectory import Exit, Message

Call = Callable[[Step], Any]
EXITS: dict[str, Exit] = {
    "LimitsExceeded": "max_turns",
    "ContextFull": "context",
    "RepeatedFormatError": "stuck",
}


class MiniSettings(BaseModel):
    """mini-swe-agent: a bash command per turn, until the agent submits its patch."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    early_sandbox: ClassVar[bool] = True  # the model is asked before the first command

    kind: Literal["mini"] = Field("mini", description="The agent of the package mini-swe-agent")
    config: str = Field("swebench_backticks", description="Which of the package's configs gives the prompts")
    max_turns: int = Field(100, ge=1, description="Model calls per rollout")
    command_seconds: float = Field(60, gt=0, description="Time limit of one command")
    max_format_errors: int = Field(3, ge=0, description="End after so many unusable replies in a row; 0 for no limit")
    system_template: str | None = Field(None, description="System message (Jinja) in place of the config's")
    instance_template: str | None = Field(
        None, description="First user message (Jinja, `task`) in place of the config's"
    )
    action_regex: str = Field(
        r"```mswea_bash_command\s*\n(.*?)\n```", description="Where in a reply the one command stands (first group)"
    )
    salvage: bool = Field(False, description="Take the repository's diff where the agent ended without submitting")


class _Stopped(Exception):
    """Nobody waits for this attempt any more."""


def attempt(instance: Instance, settings: MiniSettings) -> Attempt:
    """Needs a sandbox; asks until the agent submits, gives up or reaches a limit."""
    commands: list[Event] = []
    calls: SimpleQueue[Step | Future[dict[str, Any]]] = SimpleQueue()
    answers: SimpleQueue[Any] = SimpleQueue()

    def call(step: Step) -> Any:
        calls.put(step)
        answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    with ThreadPoolExecutor(1, thread_name_prefix="mini-swe-agent") as thread:
        run = thread.submit(_agent(settings, call).run, instance.problem_statement)
        run.add_done_callback(calls.put)
        try:
            while not isinstance(step := calls.get(), Future):
                if isinstance(step, Execute):
                    commands.append(Action("command", step.command))
                try:
                    answer = yield step
                except ContextFullError as full:
                    answer = full
                answers.put(answer)
        finally:
            answers.put(_Stopped())
    finish = replace(_finish(step.result()), repeated=repeated(commands))
    if settings.salvage and finish.exit != "submitted":
        patch, problem = yield from repository_diff()
        return replace(finish, patch=patch, remark="; ".join(filter(None, (finish.remark, problem))))
    return finish


def _finish(ended: dict[str, Any]) -> Finish:
    status = str(ended.get("exit_status"))
    if status == "Submitted":
        return Finish(str(ended.get("submission", "")), "submitted")
    return Finish("", EXITS.get(status, "stuck"), status)


def _import_package() -> None:
    """On its first import the package greets, makes a folder below the home and reads keys from it: not wanted here."""
    os.environ.setdefault("MSWEA_SILENT_STARTUP", "1")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MSWEA_GLOBAL_CONFIG_DIR", folder)
        importlib.import_module("minisweagent")


@lru_cache
def _config(name: str) -> dict[str, Any]:
    """A config of the package; read once, since all attempts wait while one reads it."""
    _import_package()
    from minisweagent.config import get_config_from_spec

    config: dict[str, Any] = get_config_from_spec(name)
    return config


def _agent(settings: MiniSettings, call: Call) -> Any:
    config = _config(settings.config)
    from minisweagent.agents.default import DefaultAgent

    templates = {"system_template": settings.system_template, "instance_template": settings.instance_template}
    agent = config["agent"] | {name: template for name, template in templates.items() if template is not None}
    agent |= {
        "step_limit": settings.max_turns,
        "cost_limit": 0,
        "max_consecutive_format_errors": settings.max_format_errors,
    }
    model = _Model(call, config["model"], settings.action_regex)
    return DefaultAgent(model, _shell(call, config["environment"], settings), **agent)


@dataclass
class _Model:
    """What mini-swe-agent calls a model; commands stand in fenced blocks, which the package itself picks out."""

    call: Call
    config: dict[str, Any]
    action_regex: str

    def query(self, messages: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
        from minisweagent.exceptions import LimitsExceeded
        from minisweagent.models.utils.actions_text import parse_regex_actions

        asked = tuple(Message(role=message["role"], content=message["content"]) for message in messages)
        try:
            reply: Reply = self.call(Ask(asked))
        except ContextFullError as full:
            extra = {"exit_status": "ContextFull", "submission": ""}
            raise LimitsExceeded({"role": "exit", "content": str(full), "extra": extra}) from full
        actions = parse_regex_actions(
            reply.text,
            action_regex=self.action_regex,
            format_error_template=self.config["format_error_template"],
            template_kwargs={"finish_reason": "length" if reply.truncated else "stop"},
        )
        return {"role": "assistant", "content": reply.text, "extra": {"actions": actions, "cost": 0.0}}

    def format_message(self, **message: Any) -> dict[str, Any]:
        return message

    def format_observation_messages(
        self, message: dict[str, Any], outputs: list[dict[str, Any]], template_vars: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        from minisweagent.models.utils.actions_text import format_observation_messages

        observed: list[dict[str, Any]] = format_observation_messages(
            outputs, observation_template=self.config["observation_template"], template_vars=template_vars
        )
        return observed

    def get_template_vars(self, **_: Any) -> dict[str, Any]:
        return {}

    def serialize(self) -> dict[str, Any]:
        return {}


def _shell(call: Call, config: dict[str, Any], settings: MiniSettings) -> Any:
    """What mini-swe-agent calls an environment. Each command runs in a shell of its own, as the prompts say."""
    from minisweagent.environments.local import LocalEnvironment

    class Shell(LocalEnvironment):  # type: ignore[misc]  # the package is untyped; from it comes `_check_finished`
        def execute(self, action: dict[str, Any], cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
            variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in config.get("env", {}).items())
            command = f"cd {config['cwd']} && {variables} bash -c {shlex.quote(action.get('command', ''))}"
            done: Executed = call(Execute(command, settings.command_seconds))
            problem = f"The command timed out after {settings.command_seconds:g} seconds" if done.timed_out else ""
            code = -1 if done.exit_code is None else done.exit_code
            output = {"output": done.output, "returncode": code, "exception_info": problem}
            self._check_finished(output)
            return output

        def get_template_vars(self, **_: Any) -> dict[str, Any]:
            return {}  # the host's own variables have no place in a prompt

    return Shell()
