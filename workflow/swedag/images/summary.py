"""`swedag images-summary`: what the images of all runs come to: how many, how large, how long they took, what passed.

In: the records of images and their ledger rows, by shard, and the environments' images. Out: a table by environment
on the screen, and a CSV with one row per instance. Beside it stands what the same instances take as published (2.6 GB
each, paper §2.2), and as one full SIF each (its environment and its layer in one file).
"""

import csv
import statistics
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from swedag.artifacts import read_jsonl, replacing
from swedag.errors import SwedagError
from swedag.grading.gate import LedgerRow
from swedag.images.record import ImageRecord
from swedag.instances import read_instances

PUBLISHED_BYTES = 2_600_000_000


def main(
    results: Annotated[Path, typer.Option(help="Folder of all runs' artifacts")] = Path("results"),
    instances: Annotated[list[Path] | None, typer.Option(help="Only those of these instance files (.jsonl)")] = None,
    output: Annotated[Path | None, typer.Option(help="One row per instance (.csv)")] = None,
) -> None:
    """Count the images, their bytes, inodes and build seconds, and the results of their gates."""
    wanted = {name for path in instances or [] for name in read_instances(path)}
    ledger, seconds = read_shards(results)
    rows = [row for row in ledger if not instances or row.instance_id in wanted]
    if not rows:
        raise SwedagError(f"{results}/*/images/*: no ledger row (.gates.jsonl); run `snakemake images` first")
    names = {row.environment for row in rows}
    shared = {name: size_of(results / "images/envs" / f"{name}.sif") for name in names}
    Console().print(table(rows, shared, seconds))
    if output:
        write_csv(output, rows, seconds)


def read_shards(results: Path) -> tuple[list[LedgerRow], dict[str, float]]:
    """Ledger rows of all runs, each image once however many have it; by content, the seconds that an image took."""
    found: dict[tuple[str, str], LedgerRow] = {}
    seconds: dict[str, float] = {}
    for path in sorted(results.glob("*/images/*/shard-*.gates.jsonl")):
        for row in read_jsonl(path, LedgerRow):
            found[row.instance_id, row.layer_sha256] = row
    for path in sorted(results.glob("*/images/*/shard-*.images.jsonl")):
        seconds |= {made.sha256: made.seconds for made in read_jsonl(path, ImageRecord) if made.sha256}
    return [found[key] for key in sorted(found)], seconds


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def table(rows: list[LedgerRow], shared: dict[str, int], seconds: dict[str, float]) -> Table:
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


def _cells(rows: list[LedgerRow], shared: dict[str, int], seconds: dict[str, float]) -> list[str]:
    present = [row for row in rows if row.bytes]
    layers = sum(row.bytes for row in present)
    known = [seconds[row.layer_sha256] for row in present if row.layer_sha256 in seconds]
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


def write_csv(path: Path, rows: list[LedgerRow], seconds: dict[str, float]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*LedgerRow.model_fields, "build_seconds"])
        for row in rows:
            writer.writerow([*row.model_dump(mode="json").values(), seconds.get(row.layer_sha256)])
