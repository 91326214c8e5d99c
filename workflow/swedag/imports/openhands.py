"""Rows of SWE-Gym's OpenHands trajectories (Sampled: calls of functions; SFT: text already) as conversations of text.

A call of a function becomes text as `scaffolds.codeact.calls` writes it, a reply with several calls becomes one message
per call, and the system message is given the tools, as the published SFT rows have it.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from swedag.scaffolds.codeact.calls import Call, render
from swedag.scaffolds.codeact.prompts import FORM
from swedag.trajectory import Message


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class Function(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    arguments: str = "{}"


class ToolCall(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str = ""
    function: Function


class Said(BaseModel):
    """A message as it was published; its content is text or parts of text."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant", "tool", "exit"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content or [])


class Tested(BaseModel):
    model_config = ConfigDict(extra="ignore")

    git_patch: str | None = None


class OpenHandsRow(BaseModel):
    """One row. SFT rows have messages alone: all of them are of resolved instances, and their patches are not told."""

    model_config = ConfigDict(extra="ignore")

    messages: list[Said] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    instance_id: str | None = None
    resolved: bool | None = None
    test_result: Tested | None = None

    def patch(self) -> str | None:
        return self.test_result.git_patch or "" if self.test_result else None


def conversation(row: OpenHandsRow) -> list[Message]:
    """The row's messages as text. ValueError for a result without its call, and for arguments that are no object."""
    messages: list[Message] = []
    waiting: dict[str, Message] = {}
    for said in row.messages:
        text = said.text()
        if said.role == "assistant":
            calls = [(call.id, _call(call.function)) for call in said.tool_calls or []]
            written = [
                (name, Message(role="assistant", content=render(text if n == 0 else "", call)))
                for n, (name, call) in enumerate(calls)
            ]
            waiting = dict(written)
            if not calls:
                messages.append(Message(role="assistant", content=text))
        elif said.role == "tool":
            if said.tool_call_id not in waiting:
                raise ValueError(f"a result of {said.name} without its call")
            messages.append(waiting.pop(said.tool_call_id or ""))
            messages.append(Message(role="user", content=f"EXECUTION RESULT of [{said.name}]:\n{text}"))
        elif said.role == "system" and row.tools and any(other.tool_calls for other in row.messages):
            messages.append(Message(role="system", content=f"{text}\n\n{describe(row.tools)}\n{FORM}"))
        else:
            messages.append(Message(role=said.role, content=text))
    return [*messages, *waiting.values()]


def _call(function: Function) -> Call:
    arguments = json.loads(function.arguments or "{}")
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {function.name} are no object")
    return Call(function.name, arguments)


def describe(tools: list[dict[str, Any]]) -> str:
    """What the tools are, from their definitions in the row."""
    lines = []
    for tool in tools:
        function = tool["function"]
        parameters = function.get("parameters") or {}
        lines.append(f"{function['name']}: {(function.get('description') or '').strip()}")
        for name, about in (parameters.get("properties") or {}).items():
            if about is None:
                continue
            need = "required" if name in (parameters.get("required") or []) else "optional"
            lines.append(f"  {name} ({about.get('type', 'string')}, {need}): {about.get('description', '')}")
        lines.append("")
    return "\n".join(lines)
