"""What a rollout depends on, as a key: a finished record is taken over by a rerun only where all of it is the same."""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from swedag.artifacts import sha256
from swedag.rollouts.attempt import Job
from swedag.rollouts.settings import EndpointSettings, RolloutSettings, decisive, sources
from swedag.serving import base_of

WHOLE_BYTES = 64 * 2**20
SAMPLES, SAMPLE_BYTES = 256, 2**16


def derive_seed(seed: int, instance_id: str, run: int) -> int:
    """The seed of one rollout, below 2**31: the same for every policy, so that comparisons share their luck."""
    return int(sha256(f"{seed}/{instance_id}/{run}")[:8], 16) % 2**31


def served(model: Path, image: Path | None) -> str:
    """Digest of what answers: a model folder, the model below it where it is an adapter, and the image with vLLM."""
    return " ".join(digest(path) for path in (model, base_of(model), image) if path)


def rollout_key(job: Job, settings: RolloutSettings, model: str | EndpointSettings) -> str:
    """Key of a job's record; `model` is the digest of what is served, or the endpoint."""
    images = [digest(path) for path in (job.environment, job.layer) if path]
    endpoint = model if isinstance(model, EndpointSettings) else None
    parts = [
        decisive(settings, endpoint),
        job.instance.model_dump(mode="json"),
        [job.policy, job.run, job.seed, *([] if endpoint else [model]), *images],
        [_digest(tuple(sources(settings, endpoint)))],
    ]
    return sha256(json.dumps(parts, sort_keys=True))


@lru_cache(maxsize=4096)
def digest(path: Path) -> str:
    """Digest of a file, or of a folder's files and names. Of files over 64 MiB, evenly spread samples and the size.

    Training changes every tensor, and a rebuilt image every compressed block: samples tell, and 60 GB need not be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256("\n".join(f"{file.relative_to(path)} {digest(file)}" for file in files))
    size = path.stat().st_size
    total = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for offset in _offsets(size):
            stream.seek(offset)
            total.update(stream.read(SAMPLE_BYTES))
    return total.hexdigest()


def _offsets(size: int) -> Iterable[int]:
    if size <= WHOLE_BYTES:
        return range(0, size, SAMPLE_BYTES)
    last = size - SAMPLE_BYTES
    return (last * i // (SAMPLES - 1) for i in range(SAMPLES))


@lru_cache
def _digest(files: tuple[str, ...]) -> str:
    return sha256("\n".join(sha256(Path(file).read_bytes()) for file in files))
