"""`swedag show FILE`: rollouts in the terminal, all as a table or one turn by turn, with their grades."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from swedag.artifacts import read_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.trajectory import Message, Rollout

COLOURS = {"system": "magenta", "user": "cyan", "assistant": "green"}
LONG_MESSAGE = 60


def main(
    file: Annotated[Path, typer.Argument(help="Rollouts of a shard (JSONL)")],
    instance: Annotated[str | None, typer.Option(help="Show the rollouts of this instance")] = None,
    run: Annotated[int | None, typer.Option(help="Show this run")] = None,
    grades: Annotated[
        Path | None, typer.Option(help="Their grades; default: the same path below grades/, if it is there")
    ] = None,
    full: Annotated[bool, typer.Option(help="Show long messages whole")] = False,
) -> None:
    """Show rollouts: all of a file as a table, or those of an instance or run turn by turn."""
    rollouts = read_jsonl(file, Rollout)
    graded = _grades_of(file, grades)
    chosen = [row for row in rollouts if instance in (None, row.instance_id) and run in (None, row.run)]
    if not chosen:
        ids = sorted({row.instance_id for row in rollouts})
        raise SwedagError(
            f"{file}: no rollout of instance {instance}, run {run}; it has {', '.join(ids[:10]) or 'none'}"
        )
    console = Console()
    if instance is None and run is None and len(chosen) > 1:
        console.print(table(chosen, graded))
        console.print("--instance ID --run N shows one of them.", style="dim")
        return
    for rollout in chosen:
        console.print(trajectory(rollout, graded.get((rollout.instance_id, rollout.run)), full))


def _grades_of(file: Path, grades: Path | None) -> dict[tuple[str, int], Grade]:
    parts = list(file.parts)
    if grades is None and "rollouts" in parts:
        parts[len(parts) - 1 - parts[::-1].index("rollouts")] = "grades"
        beside = Path(*parts)
        grades = beside if beside.is_file() else None
    return {(row.instance_id, row.run): row for row in read_jsonl(grades, Grade)} if grades else {}


def table(rollouts: list[Rollout], grades: dict[tuple[str, int], Grade]) -> Table:
    """One line per rollout."""
    lines = Table(box=None)
    lines.add_column("instance", no_wrap=True)
    paid = any(row.dollars for row in rollouts)
    for name in ("run", "exit", "outcome", "turns", "tokens", *(["dollars"] if paid else []), "patch", "remark"):
        lines.add_column(name, overflow="fold")
    for row in rollouts:
        grade = grades.get((row.instance_id, row.run))
        lines.add_row(
            escape(row.instance_id),
            str(row.run),
            row.exit,
            _outcome(grade),
            str(row.turns),
            str(row.completion_tokens),
            *([f"{row.dollars:.4f}"] if paid else []),
            f"{len(row.patch.splitlines())} lines" if row.patch else "empty",
            escape(row.error[:60]),
        )
    return lines


def trajectory(rollout: Rollout, grade: Grade | None, full: bool = False) -> RenderableType:
    """A rollout from its first message to its patch and grade. Long messages lose their middle unless `full`."""
    facts = (
        f"policy {rollout.policy}, scaffold {rollout.scaffold}, temperature {rollout.temperature:g}, "
        f"seed {rollout.seed}; {rollout.turns} turns, {_tokens(rollout)}, "
        f"{f'${rollout.dollars:.4f}, ' if rollout.dollars else ''}{rollout.seconds:g} s, {rollout.attempts} attempt(s)"
    )
    parts: list[RenderableType] = [Rule(f"{escape(rollout.instance_id)}, run {rollout.run}"), Text(facts, style="dim")]
    for number, message in enumerate(rollout.messages, 1):
        parts += _message(number, message, full)
    parts.append(Rule("patch", style="yellow"))
    parts.append(Syntax(rollout.patch, "diff", word_wrap=True) if rollout.patch else Text("empty", style="dim"))
    loop = "; its last three actions are the same" if rollout.repeated else ""
    parts.append(Text(f"exit: {rollout.exit}{f' ({rollout.error})' if rollout.error else ''}{loop}", style="bold"))
    if grade:
        parts += _grade(grade)
    return Group(*parts)


def _tokens(rollout: Rollout) -> str:
    cached = f" ({rollout.cached_tokens} cached)" if rollout.cached_tokens else ""
    return f"{rollout.prompt_tokens}{cached} + {rollout.completion_tokens} tokens"


def _message(number: int, message: Message, full: bool) -> list[RenderableType]:
    colour = COLOURS[message.role]
    lines = message.content.splitlines()
    if not full and len(lines) > LONG_MESSAGE:
        half = LONG_MESSAGE // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines (--full shows them) …", *lines[-half:]]
    # Text, not markup: what a model or a program printed may look like markup, or carry control sequences.
    body = Text("\n".join(_printable(line) for line in lines))
    return [Text(f"[{number}] {message.role}", style=f"bold {colour}"), Padding(body, (0, 0, 1, 4))]


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in line)


def _grade(grade: Grade) -> list[RenderableType]:
    tests = Table("test", "status", box=None)
    for name, status in sorted(grade.tests.items(), key=lambda item: (item[1] == "PASSED", item[0]))[:20]:
        tests.add_row(escape(name), status, style="green" if status == "PASSED" else "red")
    reason = f" ({grade.reason})" if grade.reason else ""
    return [Text(f"outcome: {grade.outcome}{reason}", style="bold"), *([tests] if grade.tests else [])]


def _outcome(grade: Grade | None) -> str:
    if grade is None:
        return "-"
    return f"[green]{grade.outcome}[/]" if grade.outcome == "resolved" else grade.outcome
