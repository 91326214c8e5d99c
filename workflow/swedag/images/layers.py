"""`swedag layers`: the layers of a shard of instances, those alone that are not there as they should be.

In: instances; the folder of the images, with the released sources or mirrors that layers are made of. Out: a record per
instance; an instance whose layer cannot be made is a record, too. A journal has what each layer was made of and its
content hash, so a killed job continues, an edited row has only its own layer made again, and a layer that is gone or
changed is made again. Layers that other shards and runs have made of the same are used.
"""

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from swedag.artifacts import sha256, sha256_file, write_jsonl
from swedag.errors import SwedagError
from swedag.images.instance import UnbuildableError, build_layer
from swedag.images.record import ImageRecord
from swedag.instances import Instance, image_files, read_instances
from swedag.journal import Journal, code_digest, records
from swedag.lease import claim
from swedag.progress import CONSOLE, each


def main(
    instance: Annotated[list[str], typer.Option(help="instance_ids")],
    instances: Annotated[Path, typer.Option(help="The instances (.jsonl)")],
    images: Annotated[
        Path, typer.Option(help="Folder of the images: sources/*.tar.gz, mirrors/*.git, envs/*.testbed.tar")
    ],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="A record for each (.jsonl)")],
    known: Annotated[Path | None, typer.Option(help="Folder of the journals of all shards")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Layers built at the same time, one that waits aside")] = 1,
) -> None:
    """Build the layers of instances: each its repository, with the bug if it has one, in one commit."""
    rows = read_instances(instances)
    strangers = [name for name in instance if name not in rows]
    if strangers:
        raise SwedagError(f"{instances}: no instance {strangers[0]}")
    builder, content = code_digest("images.instance"), cache(sha256_file)
    others = records(known) if known else {}
    with claim(work), Journal(work / "journal.jsonl") as journal:

        def layer(name: str) -> ImageRecord:
            source, written = sources(rows[name], images)
            key = _key(rows[name], source, written, builder, content)
            kept = [ImageRecord.model_validate(one) for one in (journal.get(key), others.get(key)) if one]
            record = next((one for one in kept if _is_there(one, images)), None)
            record = record or build(rows[name], source, written, images)
            if record.outcome == "built":
                journal.append(key, record.model_dump(mode="json"))
            return record

        write_jsonl(output, each("layers", layer, instance, workers + 1))


def sources(instance: Instance, images: Path) -> tuple[Path, Path | None]:
    """What a layer is made of: a mirror or an sdist, and what installing the repository wrote, if that was kept."""
    if instance.source.startswith("git:"):
        source = images / "mirrors" / f"{instance.instance_id.rpartition('-')[0]}.git"
    else:
        source = images / "sources" / f"{instance.source.removeprefix('sdist:').replace('==', '-')}.tar.gz"
    if not source.exists():
        raise SwedagError(f"{source}: no such file; the layer of {instance.instance_id} is made of it")
    written = images / "envs" / f"{instance.environment}.testbed.tar"
    return source, written if written.is_file() else None


def build(instance: Instance, source: Path, written: Path | None, images: Path) -> ImageRecord:
    """The record of the layer that is built now."""
    started = time.monotonic()
    _, layer = image_files(images, instance)
    assert layer, f"{instance.instance_id} has no environment"
    try:
        build_layer(source, instance.bug_patch, layer, instance.base_commit if source.is_dir() else "", written)
    except UnbuildableError as error:
        CONSOLE.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return ImageRecord(instance_id=instance.instance_id, outcome="missing", reason=str(error))
    return ImageRecord(
        instance_id=instance.instance_id,
        outcome="built",
        file=str(layer.relative_to(images)),
        sha256=sha256_file(layer),
        bytes=layer.stat().st_size,
        seconds=round(time.monotonic() - started, 3),
    )


def _key(instance: Instance, source: Path, written: Path | None, builder: str, content: Callable[[Path], str]) -> str:
    """What a layer's bytes depend on. A commit names its own content, whatever else is in the mirror."""
    base = instance.base_commit if source.is_dir() else content(source)
    extra = content(written) if written else ""
    return sha256(json.dumps([instance.instance_id, instance.bug_patch, base, extra, builder]))


def _is_there(record: ImageRecord, images: Path) -> bool:
    layer = images / record.file
    return layer.is_file() and sha256_file(layer) == record.sha256
