"""Edits of lines: the reply's block in their place, checked before it is kept, and the errors that are new after it."""

import ast
import difflib
import json
import re
import subprocess
import sys

# Errors alone, no matters of style: syntax, undefined names, misused literals (those that pylint calls E and F).
LINT_RULES = "E9,F63,F7,F82"
LINT_SECONDS = 30
_PLACEHOLDER = re.compile(r"^\s*#\s*\.\.\.", re.M)


class EditError(Exception):
    """The reply is no edit that can be kept; the text is for the model to read."""


def block(reply: str) -> str:
    """What stands in the reply's replace tag, which may lack its end. EditError without one."""
    _, tag, after = reply.partition("<replace>")
    if not tag:
        raise EditError(
            "There is no <replace> tag in the reply. To refuse the instructions, answer with a <reject> tag."
        )
    return after.partition("</replace>")[0]


def replaced(text: str, first: int, last: int, new: str) -> str:
    """`text` with `new` in place of the lines first to last (1-based, inclusive).

    Blank lines around `new` go, and so do lines at its end that merely repeat what follows it.
    """
    lines = text.split("\n")
    inserted = new.split("\n")
    while inserted and not inserted[0].strip():
        inserted.pop(0)
    while inserted and not inserted[-1].strip():
        inserted.pop()
    after = lines[last:]
    for overlap in range(min(len(inserted), len(after)), 0, -1):
        if inserted[-overlap:] == after[:overlap]:
            inserted = inserted[:-overlap]
            break
    return "\n".join([*lines[: first - 1], *inserted, *after])


def check(before: str, after: str) -> None:
    """EditError when nothing changed, or when the file no longer parses or has code left out that it had not."""
    if before == after:
        raise EditError(
            "The replace tag holds the same code as the search tag. To refuse the instructions, use a reject tag."
        )
    if len(_PLACEHOLDER.findall(after)) > len(_PLACEHOLDER.findall(before)):
        raise EditError("The code has comments in place of code. Write the code out.")
    try:
        ast.parse(after)
    except (SyntaxError, ValueError) as error:
        raise EditError(f"The edit was not applied, because the file would not be valid Python: {error}") from error


def diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), path, path)
    return "".join(lines)


def new_problems(path: str, before: str, after: str) -> list[str]:
    """What ruff finds wrong after the edit that it did not find before, one line each."""
    known = {problem for problem, _ in _lint(path, before)}
    return [f"{problem} (line {line})" for problem, line in _lint(path, after) if problem not in known]


def _lint(path: str, text: str) -> list[tuple[str, int]]:
    options = ("check", "--isolated", "--no-cache", "--exit-zero", "--output-format=json", f"--select={LINT_RULES}")
    command = [sys.executable, "-m", "ruff", *options, f"--stdin-filename={path}", "-"]
    ran = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=LINT_SECONDS)
    return [(f"{found['code']}: {found['message']}", found["location"]["row"]) for found in json.loads(ran.stdout)]
