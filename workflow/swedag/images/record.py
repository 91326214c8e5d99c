"""The record of an instance's image: what building its layer (`layers`) or pulling it (`registry-image`) came to."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from swedag.errors import SwedagError


class ImageRecord(BaseModel):
    """What came of one instance's image: a layer built here, or a published image converted whole.

    `file` is relative to the folder of the images, `seconds` are those of the build or conversion. `image`, `digest`
    and `moved_from` are the registry's. A missing image has a reason, and no file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_id: str
    outcome: Literal["built", "converted", "missing"]
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    seconds: float = 0.0
    image: str = ""
    digest: str = ""
    moved_from: str = ""
    reason: str = ""


def gone(image: Path, instance_id: str) -> SwedagError:
    """Files that a record speaks of are no outputs that Snakemake knows, so whoever misses one says how it is made."""
    return SwedagError(
        f"{image}: no such file; it is an image of {instance_id}. Delete the shard-<n>.images.jsonl that names it, "
        "below results/<run>/images/, and it is made again, it alone"
    )
