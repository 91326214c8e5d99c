"""The rules of a loop, each on its own, and each just missed."""

import pytest

from swedag.scaffolds.stuck import Action, Event, Observation, repeated, stuck


def command(text: str = "ls", thought: str = "") -> Action:
    return Action("command", text, thought)


def result(text: str = "", command: str = "ls", exit_code: int = 0) -> Observation:
    return Observation("command", text, command, exit_code)


def pairs(*steps: tuple[Action, Observation]) -> list[Event]:
    return [event for step in steps for event in step]


STEP = (command(), result())
OTHER = (command("pwd"), result(command="pwd"))
ERROR = Observation("error", "what?")
MESSAGE = Action("message", "I am done.")


def cell(error: str, line: int = 1, extra: str = "") -> Observation:
    text = f"  Cell In[1], line {line}\n    x = ({extra}\n        ^\n\n{error}\n"
    ours = "[Jupyter current working directory: /testbed]\n[Jupyter Python interpreter: /usr/bin/python]"
    return Observation("code", text + ours)


UNTERMINATED = "SyntaxError: unterminated string literal (detected at line 1)"
COMMA = "SyntaxError: invalid syntax. Perhaps you forgot a comma?"
INCOMPLETE = "SyntaxError: incomplete input"
CODE = Action("code", "x = (")


@pytest.mark.parametrize(
    ("history", "rule"),
    [
        # 1: four equal actions with four equal observations
        (pairs(*[STEP] * 4), "same action and observation"),
        (pairs(*[STEP] * 3), None),
        (pairs(OTHER, *[STEP] * 4), "same action and observation"),
        (pairs(*[STEP] * 4, OTHER), None),
        (pairs(*[STEP] * 3, (command(thought="now"), result())), None),
        (pairs(*[STEP] * 3, (command(), result(exit_code=1))), None),
        (pairs(*[(command(), result(str(n))) for n in range(4)]), "same action and observation"),
        (pairs(*[(CODE, Observation("code", "a"))] * 4), "same action and observation"),
        (pairs(*[(CODE, Observation("code", str(n))) for n in range(4)]), None),
        # 2: three equal actions, each with an error; four of each there must be
        (pairs(OTHER, *[(command(), ERROR)] * 3), "same action and error"),
        (pairs(*[(command(), ERROR)] * 3), None),
        (pairs(OTHER, STEP, *[(command(), ERROR)] * 2), None),
        (pairs(OTHER, (command("ls -l"), ERROR), *[(command(), ERROR)] * 2), None),
        (pairs(OTHER, *[(command(), Observation("error", str(n))) for n in range(3)]), "same action and error"),
        (pairs(OTHER, *[(CODE, cell(UNTERMINATED))] * 3), "same action and error"),
        (pairs(OTHER, *[(CODE, cell(COMMA))] * 3), "same action and error"),
        (pairs(OTHER, *[(CODE, cell(INCOMPLETE))] * 3), "same action and error"),
        (pairs(OTHER, *[(CODE, cell("NameError: name 'x' is not defined"))] * 3), None),
        (pairs(OTHER, *[(CODE, cell(COMMA, line)) for line in (1, 1, 2)]), None),
        (pairs(OTHER, *[(CODE, cell(UNTERMINATED, line)) for line in (1, 1, 2)]), "same action and error"),
        (pairs(OTHER, *[(CODE, cell(e)) for e in (COMMA, COMMA, INCOMPLETE)]), None),
        (pairs(OTHER, *[(CODE, cell(UNTERMINATED.replace("1", n))) for n in "112"]), None),
        (pairs(OTHER, *[(CODE, o) for o in (cell(COMMA), ERROR, cell(COMMA))]), None),
        # 3: the same message three times with nothing observed between
        ([MESSAGE] * 3, "monologue"),
        ([MESSAGE] * 2, None),
        ([*STEP, *[MESSAGE] * 3], "monologue"),
        ([MESSAGE, MESSAGE, Action("message", "I am done!")], None),
        ([MESSAGE, MESSAGE, ERROR, MESSAGE], None),
        ([*[MESSAGE] * 3, ERROR], "monologue"),
        # 4: two steps by turns, three times over
        (pairs(*[STEP, OTHER] * 3), "alternation"),
        (pairs(*[STEP, OTHER] * 2, STEP), None),
        (pairs(*[STEP, OTHER] * 2, STEP, (command("pwd"), result(command="pwd", exit_code=1))), None),
        (pairs(*[STEP, OTHER] * 2, STEP, (command("df"), result(command="pwd"))), None),
        (pairs(STEP, OTHER, *[STEP, OTHER] * 3, STEP), "alternation"),
        ([], None),
    ],
)
def test_rules(history: list[Event], rule: str | None) -> None:
    assert stuck(history) == rule


def test_replacing_calls_are_the_same_by_their_first_three_lines() -> None:
    def call(fourth: str, thought: str = "", third: str = "to_replace='a',") -> Action:
        return Action("code", f"edit_file_by_replace(\n'm.py',\n{third}\n{fourth})", thought)

    shown = Observation("code", "edited")
    assert stuck(pairs(*[(call(str(n), thought=str(n)), shown) for n in range(4)])) == "same action and observation"
    assert stuck(pairs(*[(call("1", third=str(n)), shown) for n in range(4)])) is None
    one_line = Action("code", "edit_file_by_replace('m.py', 'a', 'b')")
    assert stuck(pairs(*[(one_line, shown)] * 4)) is None


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (pairs(*[STEP] * 3), True),
        (pairs(*[STEP] * 2), False),
        (pairs(*[STEP] * 3, OTHER), False),
        (pairs(*[(command(thought=t), result(t, exit_code=n)) for n, t in enumerate("abc")]), True),
        ([MESSAGE] * 3, True),
        ([], False),
    ],
)
def test_what_the_paper_calls_stuck_is_the_same_action_in_the_last_three_turns(
    history: list[Event], expected: bool
) -> None:
    assert repeated(history) is expected
