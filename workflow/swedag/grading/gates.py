"""`swedag gates`: the ledger rows of a shard of instances with published images.

In: instances, the records of their images (`registry-image`). Out: one row per record, as `swedag gate` writes them. A
journal keeps finished rows; those that any other run has finished with the same image and settings are taken over.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from swedag.artifacts import read_jsonl, sha256, write_jsonl
from swedag.errors import SwedagError
from swedag.grading.gate import LedgerRow, ledger_row
from swedag.grading.run import GradingSettings
from swedag.images.record import PullRecord
from swedag.instances import read_instances
from swedag.journal import Journal, code_digest, records
from swedag.lease import claim


def main(
    instances: Annotated[Path, typer.Option(help="The instances, as JSONL")],
    pulls: Annotated[Path, typer.Option(help="What came of their published images (.jsonl of registry-image)")],
    images: Annotated[Path, typer.Option(help="Folder of the images")],
    settings: Annotated[str, typer.Option(help="GradingSettings as JSON")],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="The ledger rows (.jsonl)")],
    known: Annotated[Path | None, typer.Option(help="Folder of the journals of all runs")] = None,
) -> None:
    """Check published images with the gold patch and with an empty one, and write their ledger rows."""
    chosen = GradingSettings.model_validate_json(settings)
    rows = read_instances(instances)
    pulled = read_jsonl(pulls, PullRecord)
    for record in pulled:
        if record.instance_id not in rows:
            raise SwedagError(f"{instances}: no instance {record.instance_id!r}, which {pulls} has an image of")
    code = code_digest("grading.gates")
    keys = [_key(rows[record.instance_id].model_dump_json(), record, settings, code) for record in pulled]
    others = records(known) if known and known.is_dir() else {}
    with claim(work), Journal(work / "journal.jsonl") as journal:
        for key, record in track(list(zip(keys, pulled, strict=True)), "gates", console=Console(stderr=True)):
            if key not in journal:
                found = others.get(key) or ledger_row(rows[record.instance_id], images, chosen, record).model_dump(
                    mode="json"
                )
                journal.append(key, found)
        write_jsonl(output, [LedgerRow.model_validate(journal.get(key)) for key in keys])


def _key(instance: str, record: PullRecord, settings: str, code: str) -> str:
    """What a ledger row depends on: the instance's row, its image, the settings and the code."""
    image = [record.image, record.outcome, record.digest, record.sif_sha256, record.reason]
    return sha256(json.dumps([instance, image, settings, code]))
