"""Trajectories in the terminal."""

from pathlib import Path

import pytest
from rich.console import Console

from swedag.artifacts import write_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.show import main, trajectory
from swedag.trajectory import Message, Rollout

PATCH = "--- a/m.py\n+++ b/m.py\n@@ -1 +1 @@\n-a\n+b\n"


def rollout(run: int = 0, **changes: object) -> Rollout:
    row = Rollout(
        instance_id="pkg-1.0.eval-000",
        run=run,
        policy="base",
        scaffold="single_edit",
        seed=7,
        temperature=0.5,
        messages=[
            Message(role="user", content="fix [bold]this[/bold]"),
            Message(role="assistant", content="\x1b[31mok"),
        ],
        patch=PATCH,
        exit="submitted",
        turns=1,
        prompt_tokens=10,
        completion_tokens=2,
        seconds=1.5,
    )
    return row.model_copy(update=changes)


GRADE = Grade(
    instance_id="pkg-1.0.eval-000",
    run=0,
    patch_sha256="",
    outcome="unresolved",
    resolved=False,
    official_resolved=False,
    tests={"t.py::passes": "PASSED", "t.py::fails": "FAILED"},
)


def rendered(row: Rollout, grade: Grade | None = None, full: bool = False) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(trajectory(row, grade, full))
    return capture.get()


def test_what_an_endpoint_charged_and_a_loop_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = rollout(dollars=0.0123, cached_tokens=8, exit="stuck", repeated=True)
    text = " ".join(rendered(row).split())
    assert "1 turns, 10 (8 cached) + 2 tokens, $0.0123, 1.5 s" in text
    assert "exit: stuck; its last three actions are the same" in text
    write_jsonl(tmp_path / "rows.jsonl", [row, rollout(1)])
    main(tmp_path / "rows.jsonl")
    assert "dollars" in (table := capsys.readouterr().out)
    assert "0.0123" in table


def test_a_trajectory_shows_what_was_said_the_patch_and_the_grade() -> None:
    text = rendered(rollout(), GRADE)
    for part in ("pkg-1.0.eval-000, run 0", "policy base", "temperature 0.5", "+b", "exit: submitted", "unresolved"):
        assert part in text
    assert text.index("t.py::fails") < text.index("t.py::passes")


def test_what_a_model_says_is_text_and_neither_markup_nor_control_sequence() -> None:
    text = rendered(rollout())
    assert "fix [bold]this[/bold]" in text
    assert "\x1b" not in text
    assert "�[31mok" in text


def test_long_messages_lose_their_middle_unless_asked_for() -> None:
    long = rollout(messages=[Message(role="user", content="\n".join(f"line {n}" for n in range(100)))])
    assert "line 50" not in rendered(long)
    assert "40 lines" in rendered(long)
    assert "line 50" in rendered(long, full=True)


def test_an_empty_patch_and_a_reason_are_told() -> None:
    text = rendered(rollout(patch="", exit="infrastructure", error="the model server was lost"))
    assert "empty" in text
    assert "exit: infrastructure (the model server was lost)" in text


def test_a_file_is_shown_as_a_table_with_the_grades_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rollouts" / "s" / "runs-0-1" / "shard-0.jsonl"
    write_jsonl(file, [rollout(0), rollout(1)])
    write_jsonl(tmp_path / "grades" / "s" / "runs-0-1" / "shard-0.jsonl", [GRADE])
    main(file)
    lines = capsys.readouterr().out.splitlines()
    assert "unresolved" in lines[1]
    assert "unresolved" not in lines[2]
    main(file, run=1)
    assert "run 1" in capsys.readouterr().out


def test_an_unknown_instance_names_those_that_are_there(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "r.jsonl", [rollout()])
    with pytest.raises(SwedagError, match=r"nothing.*pkg-1\.0\.eval-000"):
        main(tmp_path / "r.jsonl", instance="nothing")
