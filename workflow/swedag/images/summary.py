"""`swedag images-summary`: what the images of a run come to: how many, how large, how long they took, what passed.

In: ledger rows, the environments' images, Snakemake's benchmark files. Out: a table by environment on the screen, and a
CSV with one row per instance. Beside it stands what the same instances take as published (2.6 GB each, paper §2.2), and
as one full SIF each (its environment and its layer in one file).
"""

import csv
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from swedag.artifacts import replacing
from swedag.errors import SwedagError
from swedag.grading.gate import LedgerRow
from swedag.instances import read_instances

PUBLISHED_BYTES = 2_600_000_000


def main(
    images: Annotated[Path, typer.Option(help="Folder of the images")] = Path("results/images"),
    instances: Annotated[list[Path] | None, typer.Option(help="Only those of these instance files (.jsonl)")] = None,
    benchmarks: Annotated[Path, typer.Option(help="Snakemake's benchmark files of images")] = Path("benchmarks/images"),
    output: Annotated[Path | None, typer.Option(help="One row per instance (.csv)")] = None,
) -> None:
    """Count the images, their bytes, inodes and build seconds, and the results of their gates."""
    wanted = {name for path in instances or [] for name in read_instances(path)}
    ledger = read_ledger(sorted((images / "instances").glob("*.json")))
    rows = [row for row in ledger if not instances or row.instance_id in wanted]
    if not rows:
        raise SwedagError(f"{images}/instances: no ledger row (.json); run the gate of some instances first")
    seconds = {row.instance_id: build_seconds(benchmarks, row.instance_id) for row in rows}
    shared = {row.environment: size_of(images / "envs" / f"{row.environment}.sif") for row in rows}
    Console().print(table(rows, shared, seconds))
    if output:
        write_csv(output, rows, seconds)


def read_ledger(paths: Iterable[Path]) -> list[LedgerRow]:
    """Ledger rows by path; SwedagError names one that is none."""
    rows = []
    for path in paths:
        try:
            rows.append(LedgerRow.model_validate_json(path.read_text()))
        except (OSError, ValidationError) as error:
            raise SwedagError(f"{path}: not a ledger row; delete it to have its gate run again: {error}") from error
    return rows


def build_seconds(benchmarks: Path, instance_id: str) -> float | None:
    """Wall time of the job that made an instance's layer; None when it is not known."""
    path = benchmarks / "instances" / f"{instance_id}.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return float(json.loads(lines[-1])["s"]) if lines else None


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def table(rows: list[LedgerRow], shared: dict[str, int], seconds: dict[str, float | None]) -> Table:
    """By environment, and in all; MB are 10^6 bytes."""
    made = Table(title="Images by environment (MB = 10⁶ bytes)")
    for column in (
        "environment", "instances", "gate passed", "environment MB", "layers MB", "MB per added instance",
        "largest", "inodes per instance", "build s", "as full SIFs MB", "as published MB",
    ):  # fmt: skip
        made.add_column(column, justify="left" if column == "environment" else "right")
    for environment in sorted(shared):
        members = [row for row in rows if row.environment == environment]
        made.add_row(environment or "(whole images)", *_cells(members, {environment: shared[environment]}, seconds))
    made.add_section()
    made.add_row("all", *_cells(rows, shared, seconds))
    return made


def _cells(rows: list[LedgerRow], shared: dict[str, int], seconds: dict[str, float | None]) -> list[str]:
    present = [row for row in rows if row.bytes]
    layers = sum(row.bytes for row in present)
    known = [taken for row in rows if (taken := seconds[row.instance_id]) is not None]
    missing = f" ({len(rows) - len(present)} missing)" if len(present) < len(rows) else ""
    return [
        f"{len(rows)}{missing}",
        str(sum(row.passed for row in rows)),
        _megabytes(sum(shared.values())),
        _megabytes(layers),
        _megabytes(layers / len(present)) if present else "",
        _megabytes(max(row.bytes for row in present)) if present else "",
        f"{statistics.mean(row.inodes for row in present):.0f}" if present else "",
        f"{statistics.mean(known):.1f}" if known else "",
        _megabytes(sum(row.bytes + shared[row.environment] for row in present)),
        _megabytes(PUBLISHED_BYTES * len(present)),
    ]


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.2f}" if count < 1e8 else f"{count / 1e6:,.0f}"


def write_csv(path: Path, rows: list[LedgerRow], seconds: dict[str, float | None]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*LedgerRow.model_fields, "build_seconds"])
        for row in rows:
            writer.writerow([*row.model_dump(mode="json").values(), seconds[row.instance_id]])
