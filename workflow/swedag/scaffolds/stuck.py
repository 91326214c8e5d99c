"""Stuck in a loop: the four rules of OpenHands' detector, and what the paper's text calls by that name.

A history is what the agent did and what came back, oldest first; messages of the user do not belong in it. Two actions
are the same when kind, text and thought are; two results of commands, when command and exit code are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard, TypeVar

Rule = Literal["same action and observation", "same action and error", "monologue", "alternation"]
Item = TypeVar("Item")

# The syntax errors of a Python cell that count as errors; only the first of them may stand on differing first lines.
SYNTAX_ERRORS = (
    "SyntaxError: unterminated string literal (detected at line",
    "SyntaxError: invalid syntax. Perhaps you forgot a comma?",
    "SyntaxError: incomplete input",
)
REPLACING_CALL = "edit_file_by_replace("


@dataclass(frozen=True)
class Action:
    """What the agent did: a command, a cell of Python (editor calls are such), or a message without a call."""

    kind: Literal["command", "code", "message"]
    text: str
    thought: str = ""


@dataclass(frozen=True)
class Observation:
    """What came back; `command` and `exit_code` belong to the kind "command" only."""

    kind: Literal["command", "code", "error"]
    text: str
    command: str = ""
    exit_code: int | None = None


Event = Action | Observation


def stuck(history: Sequence[Event]) -> Rule | None:
    """The first rule that the end of the history meets (OpenHands 0.14, `StuckDetector`), or None."""
    if len(history) < 3:
        return None
    actions = [event for event in history if isinstance(event, Action)]
    observations = [event for event in history if isinstance(event, Observation)]
    if len(actions) >= 4 and len(observations) >= 4:
        if _equal(actions[-4:]) and _equal(observations[-4:]):
            return "same action and observation"
        if _equal(actions[-3:]) and _all_errors(observations[-3:]):
            return "same action and error"
    if _monologue(history):
        return "monologue"
    alternating = len(actions) >= 6 and len(observations) >= 6
    if alternating and _alternate(actions[-6:]) and _alternate(observations[-6:]):
        return "alternation"
    return None


def repeated(history: Sequence[Event]) -> bool:
    """The paper's words: the very same action in the last three turns, whatever was thought or came back."""
    actions = [replace(event, thought="") for event in history if isinstance(event, Action)]
    return len(actions) >= 3 and actions[-1] == actions[-2] == actions[-3]


def _same(one: object, other: object) -> bool:
    if isinstance(one, Observation) and isinstance(other, Observation) and one.kind == other.kind == "command":
        return (one.command, one.exit_code) == (other.command, other.exit_code)
    if _replaces(one) and _replaces(other):
        first = one.text.split("\n")[:3]
        return len(first) == 3 and first == other.text.split("\n")[:3]
    return one == other


def _replaces(event: object) -> TypeGuard[Action]:
    return isinstance(event, Action) and event.kind == "code" and REPLACING_CALL in event.text


def _equal(items: Sequence[Item]) -> bool:
    return all(_same(items[-1], item) for item in items)


def _alternate(items: Sequence[Item]) -> bool:
    return _equal(items[::2]) and _equal(items[1::2])


def _all_errors(observations: Sequence[Observation]) -> bool:
    if all(observation.kind == "error" for observation in observations):
        return True
    if any(observation.kind != "code" for observation in observations):
        return False
    cells = [_syntax_error(observation.text) for observation in observations]
    return cells[0] is not None and len(set(cells)) == 1


def _syntax_error(text: str) -> tuple[str, str] | None:
    """(first line, line of the error) of a cell that ended in one of the syntax errors, before Jupyter's two lines."""
    lines = text.strip().split("\n")
    if len(lines) < 3 or not lines[-1].startswith("[Jupyter Python interpreter:"):
        return None
    if not lines[-2].startswith("[Jupyter current working directory:"):
        return None
    if SYNTAX_ERRORS[0] in lines[-3]:
        return "", lines[-3]
    place = lines[0].strip()
    if len(lines) >= 6 and place.startswith("Cell In[1], line") and any(e in lines[-3] for e in SYNTAX_ERRORS[1:]):
        return place, lines[-3]
    return None


def _monologue(history: Sequence[Event]) -> bool:
    said = [place for place, event in enumerate(history) if isinstance(event, Action) and event.kind == "message"][-3:]
    if len(said) < 3 or not _equal([history[place] for place in said]):
        return False
    return not any(isinstance(event, Observation) for event in history[said[0] : said[-1]])
