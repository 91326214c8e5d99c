"""The editor tool without its files: text in, text and what the model reads of it out.

The observations have the form of openhands-aci 0.1.0, which the published trajectories show. Tabs stay tabs, where that
version writes spaces in their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_VIEW = 16_000
CONTEXT_LINES = 4
CLIPPED = (
    "<response clipped><NOTE>To save on context only part of this file has been shown to you. You should retry this "
    "tool after you have searched inside the file with `grep -n` in order to find the line numbers of what you are "
    "looking for.</NOTE>"
)
REVIEW = "Review the changes and make sure they are as expected"
AGAIN = "Edit the file again if necessary."


class EditorError(Exception):
    """The edit cannot be made; the text is for the model to read."""


@dataclass(frozen=True)
class Edited:
    """The file's new text, and the observation."""

    text: str
    observation: str


def invalid(parameter: str, value: object, hint: str) -> EditorError:
    return EditorError(f"Invalid `{parameter}` parameter: {value}. {hint}")


def missing(parameter: str, command: str) -> EditorError:
    return EditorError(f"Parameter `{parameter}` is required for command: {command}.")


def view(path: str, text: str, view_range: Sequence[object] | None = None) -> str:
    """The file with its lines numbered, or the lines first to last (1-based, inclusive; last -1 for the end)."""
    if not view_range:
        return numbered(text, path)
    lines = text.split("\n")
    first, last = _range(view_range, len(lines))
    return numbered("\n".join(lines[first - 1 : len(lines) if last == -1 else last]), path, first)


def _range(view_range: Sequence[object], count: int) -> tuple[int, int]:
    match view_range:
        case [int(first), int(last)]:
            pass
        case _:
            raise invalid("view_range", view_range, "It should be a list of two integers.")
    if not 1 <= first <= count:
        raise invalid(
            "view_range",
            view_range,
            f"Its first element `{first}` should be within the range of lines of the file: {[1, count]}.",
        )
    if last > count:
        raise invalid(
            "view_range",
            view_range,
            f"Its second element `{last}` should be smaller than the number of lines in the file: `{count}`.",
        )
    if last != -1 and last < first:
        raise invalid(
            "view_range",
            view_range,
            f"Its second element `{last}` should be greater than or equal to the first element `{first}`.",
        )
    return first, last


def replaced(path: str, text: str, old: str | None, new: str | None) -> Edited:
    """`old`, which must stand exactly once in the text, gives way to `new`."""
    if not old:
        raise missing("old_str", "str_replace")
    new = new or ""
    if old == new:
        raise invalid("new_str", new, "No replacement was performed. `new_str` and `old_str` must be different.")
    count = text.count(old)
    if count == 0:
        raise EditorError(f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}.")
    if count > 1:
        raise EditorError(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines {_lines_of(text, old)}. "
            "Please ensure it is unique."
        )
    place = text[: text.index(old)].count("\n")
    after = text.replace(old, new)
    first = max(0, place - CONTEXT_LINES)
    snippet = "\n".join(after.split("\n")[first : place + CONTEXT_LINES + new.count("\n") + 1])
    shown = numbered(snippet, f"a snippet of {path}", first + 1)
    return Edited(after, f"The file {path} has been edited. {shown}{REVIEW}. {AGAIN}")


def inserted(path: str, text: str, after_line: int | None, new: str | None) -> Edited:
    """`new` as lines of its own after line `after_line` (0 for the beginning)."""
    if after_line is None:
        raise missing("insert_line", "insert")
    if not new:
        raise missing("new_str", "insert")
    lines, added = text.split("\n"), new.split("\n")
    if not 0 <= after_line <= len(lines):
        raise invalid(
            "insert_line", after_line, f"It should be within the range of lines of the file: {[0, len(lines)]}"
        )
    first = max(0, after_line - CONTEXT_LINES)
    snippet = [*lines[first:after_line], *added, *lines[after_line : after_line + CONTEXT_LINES]]
    shown = numbered("\n".join(snippet), "a snippet of the edited file", first + 1)
    return Edited(
        "\n".join([*lines[:after_line], *added, *lines[after_line:]]),
        f"The file {path} has been edited. {shown}{REVIEW} (correct indentation, no duplicate lines, etc). {AGAIN}",
    )


def numbered(text: str, what: str, first: int = 1) -> str:
    """The lines of `text` with their numbers, as `cat -n` shows them; a long text is clipped."""
    shown = text if len(text) <= LONGEST_VIEW else text[:LONGEST_VIEW] + CLIPPED
    lines = [f"{number:6}\t{line}" for number, line in enumerate(shown.split("\n"), first)]
    return f"Here's the result of running `cat -n` on {what}:\n" + "\n".join(lines) + "\n"


def _lines_of(text: str, part: str) -> list[int]:
    lines, at = [], text.find(part)
    while at >= 0:
        lines.append(text[:at].count("\n") + 1)
        at = text.find(part, at + len(part))
    return lines
