"""What a run came to: its tables, where the time went, and where the report lies. Reads results/ and benchmarks/."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from swedag.report.cost import step_of


def times(folders: list[Path], run: str) -> dict[str, list[dict[str, float]]]:
    """Snakemake's benchmark rows by step (images/instances, grades, checkpoints, …)."""
    steps: dict[str, list[dict[str, float]]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.rglob("*.jsonl")):
            step = step_of(path.relative_to(folder.parent).parts, run)
            steps[step] += [json.loads(line) for line in path.read_text().splitlines()]
    return steps


def time_table(steps: dict[str, list[dict[str, float]]]) -> Table:
    table = Table("step", "jobs", "wall s", "CPU s", "peak MiB", title="Where the time went (sums over jobs)")
    for column in table.columns[1:]:
        column.justify = "right"
    order = sorted(steps, key=lambda step: -sum(row["s"] for row in steps[step]))
    for step in order:
        rows = steps[step]
        cells = [sum(row["s"] for row in rows), sum(float(row["cpu_time"] or 0) for row in rows)]
        peak = max(float(row["max_rss"] or 0) for row in rows)
        table.add_row(step, str(len(rows)), *[f"{cell:.1f}" for cell in cells], f"{peak:.0f}")
    return table


def main(
    run_dir: Annotated[Path, typer.Option(help="results/<run>")],
    benchmarks: Annotated[Path, typer.Option(help="Snakemake's benchmark files")] = Path("benchmarks"),
) -> None:
    """Print the tables of a run, where its time went, and where its report lies."""
    console = Console()
    for path in sorted((run_dir / "tables").glob("*.md")):
        console.print(Markdown(path.read_text()))
        console.print()
    folders = [
        folder
        for folder in (benchmarks / run_dir.name, benchmarks / "images", benchmarks / "models")
        if folder.is_dir()
    ]
    console.print(time_table(times(folders, run_dir.name)))
    console.print(f"\nReport: {run_dir}/report/index.html (open it in a browser; it needs no server)")
