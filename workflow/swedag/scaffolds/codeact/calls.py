"""Tool calls as text, in the form of the published trajectories (for models without function calling).

    what the agent thinks

    <function=execute_bash>
    <parameter=command>ls</parameter>
    </function>

A value of several lines has a line break after the opening tag and before the closing one; those two are not part of
it. `parse` undoes exactly what `render` did. OpenHands of the paper's time strips all white space around a value
instead, so that the first line of an edit loses its indentation, and leaves out a parameter that was cut off, so that
half a replacement becomes a deletion; neither is repeated here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

STOP = ("</function",)
EDITOR_COMMANDS = ("view", "create", "str_replace", "insert", "undo_edit")
_CALL = re.compile(r"<function=([^>]+)>(.*?)</function>", re.S)
_PARAMETER = re.compile(r"<parameter=([^>]+)>(.*?)</parameter>", re.S)


class CallError(Exception):
    """The reply calls a tool in a way that cannot be carried out; the text is for the model to read."""


@dataclass(frozen=True)
class Call:
    """One call: the tool's name and its arguments, of the types that the tool takes."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _text(value: str) -> str:
    return value.removeprefix("\n").removesuffix("\n") if value.startswith("\n") else value


def _integer(value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise CallError("is expected to be an integer.") from error


def _array(value: str) -> list[Any]:
    try:
        items = json.loads(value)
    except json.JSONDecodeError as error:
        raise CallError("is expected to be an array.") from error
    if not isinstance(items, list):
        raise CallError("is expected to be an array.")
    return items


def _editor_command(value: str) -> str:
    if value.strip() not in EDITOR_COMMANDS:
        raise CallError(f"is expected to be one of {', '.join(EDITOR_COMMANDS)}.")
    return value.strip()


# Of each tool, its parameters (how they are read, those required first) and how many are required.
TOOLS: dict[str, tuple[dict[str, Callable[[str], Any]], int]] = {
    "execute_bash": ({"command": _text}, 1),
    "finish": ({}, 0),
    "str_replace_editor": (
        {
            "command": _editor_command,
            "path": str.strip,
            "file_text": _text,
            "old_str": _text,
            "new_str": _text,
            "insert_line": _integer,
            "view_range": _array,
        },
        2,
    ),
}


def parse(reply: str) -> tuple[str, Call | None]:
    """(what was thought, the call or None). A call cut off by the stop word is completed. CallError for a wrong one."""
    found = _CALL.search(_completed(reply))
    if found is None:
        return reply, None
    name, body = found[1], found[2]
    if name not in TOOLS:
        raise CallError(f"Function '{name}' not found in available tools: {', '.join(TOOLS)}")
    readers, required = TOOLS[name]
    if "<parameter=" in _PARAMETER.sub("", body):
        raise CallError(f"The call of function '{name}' is cut off: a parameter has no </parameter>. Nothing was done.")
    arguments: dict[str, Any] = {}
    for parameter, value in _PARAMETER.findall(body):
        if parameter not in readers:
            raise CallError(
                f"Parameter '{parameter}' is not allowed for function '{name}'. "
                f"Allowed parameters: {', '.join(readers) or 'none'}"
            )
        try:
            arguments[parameter] = readers[parameter](value)
        except CallError as error:
            raise CallError(f"Parameter '{parameter}' {error}") from error
    missing = [parameter for parameter in list(readers)[:required] if parameter not in arguments]
    if missing:
        raise CallError(f"Missing required parameters for function '{name}': {', '.join(missing)}")
    return reply.split("<function=")[0].strip(), Call(name, arguments)


def render(thought: str, call: Call) -> str:
    """The message that says this."""
    lines = [f"<function={call.name}>"]
    for parameter, value in call.arguments.items():
        several = isinstance(value, str) and "\n" in value
        lines.append(f"<parameter={parameter}>" + (f"\n{value}\n" if several else f"{value}") + "</parameter>")
    return "\n".join([f"{thought}\n", *lines, "</function>"]).lstrip()


def _completed(reply: str) -> str:
    if reply.count("<function=") != 1 or "</function>" in reply:
        return reply
    begun = next((end for end in ("</function", "</") if reply.rstrip().endswith(end)), "")
    return reply.rstrip().removesuffix(begun) + "\n</function>"
