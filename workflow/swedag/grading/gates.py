"""`swedag gates`: the ledger rows of a shard of instances.

In: instances, the records of their images (`layers`, `registry-image`). Out: a row per record, as `swedag gate` makes
them. A journal keeps finished rows; those that other runs have finished with the same images and settings are used.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from swedag.artifacts import read_jsonl, sha256, sha256_file, write_jsonl
from swedag.errors import SwedagError
from swedag.grading.gate import LedgerRow, ledger_row
from swedag.grading.run import GradingSettings
from swedag.images.record import ImageRecord
from swedag.instances import Instance, image_files, read_instances
from swedag.journal import Journal, code_digest
from swedag.journal import records as journaled
from swedag.lease import claim
from swedag.progress import each


def main(
    instances: Annotated[Path, typer.Option(help="The instances, as JSONL")],
    records: Annotated[Path, typer.Option(help="What came of their images (.jsonl of layers or registry-image)")],
    images: Annotated[Path, typer.Option(help="Folder of the images")],
    settings: Annotated[str, typer.Option(help="GradingSettings as JSON")],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="The ledger rows (.jsonl)")],
    known: Annotated[Path | None, typer.Option(help="Folder of the journals of all runs")] = None,
    workers: Annotated[int, typer.Option(help="Sandboxes at the same time (0: as the settings say)")] = 0,
) -> None:
    """Check images with the gold patch and with an empty one, and write their ledger rows."""
    chosen = GradingSettings.model_validate_json(settings)
    rows = read_instances(instances)
    made = read_jsonl(records, ImageRecord)
    for record in made:
        if record.instance_id not in rows:
            raise SwedagError(f"{instances}: no instance {record.instance_id!r}, which {records} has an image of")
    code, content = code_digest("grading.gates"), cache(sha256_file)
    keys = {
        record.instance_id: _key(rows[record.instance_id], record, images, content, f"{settings} {code}")
        for record in made
    }
    others = journaled(known) if known and known.is_dir() else {}
    at_once = 1 + (workers or chosen.workers)  # sandboxes start and end with waits that would leave a core idle
    with claim(work), Journal(work / "journal.jsonl") as journal, ThreadPoolExecutor(at_once) as sandboxes:

        def gate(record: ImageRecord) -> LedgerRow:
            key = keys[record.instance_id]
            kept = journal.get(key) or others.get(key)
            row = (
                LedgerRow.model_validate(kept)
                if kept
                else ledger_row(rows[record.instance_id], images, chosen, record, sandboxes)
            )
            if key not in journal:
                journal.append(key, row.model_dump(mode="json"))
            return row

        write_jsonl(output, each("gates", gate, made, at_once))


def _key(instance: Instance, record: ImageRecord, images: Path, content: Callable[[Path], str], grader: str) -> str:
    """What a ledger row depends on: the instance's row, its images, the settings and the code."""
    environment, layer = image_files(images, instance)
    shared = content(environment) if layer and environment.is_file() else ""
    image = [record.outcome, record.sha256, record.image, record.digest, record.reason, shared]
    return sha256(json.dumps([instance.model_dump_json(), image, grader]))
