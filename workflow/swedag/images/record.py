"""The record of an instance's published image, which `registry-image` writes and the gate reads."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class PullRecord(BaseModel):
    """What came of one instance's image. `sif` is relative to the folder of the images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_id: str
    image: str
    outcome: Literal["converted", "missing"]
    digest: str = ""
    moved_from: str = ""
    sif: str = ""
    sif_sha256: str = ""
    bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
