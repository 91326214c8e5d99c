"""What a rollout depends on, as a key: a finished record is taken over by a rerun only where all of it is the same."""

import json
from functools import lru_cache
from pathlib import Path

from swedag.artifacts import sha256
from swedag.digest import digest
from swedag.rollouts.attempt import Job
from swedag.rollouts.settings import EndpointSettings, RolloutSettings, decisive, sources


def derive_seed(seed: int, instance_id: str, run: int) -> int:
    """The seed of one rollout, below 2**31: the same for every policy, so that comparisons share their luck."""
    return int(sha256(f"{seed}/{instance_id}/{run}")[:8], 16) % 2**31


def rollout_key(job: Job, settings: RolloutSettings, model: str | EndpointSettings) -> str:
    """Key of a job's record; `model` is the digest of what is served, or the endpoint."""
    images = [digest(path) for path in (job.environment, job.layer) if path]
    endpoint = model if isinstance(model, EndpointSettings) else None
    parts = [
        decisive(settings, endpoint),
        job.instance.model_dump(mode="json"),
        [job.policy, job.run, job.seed, *([] if endpoint else [model]), *images],
        [_digest_of_code(tuple(sources(settings, endpoint)))],
    ]
    return sha256(json.dumps(parts, sort_keys=True))


@lru_cache
def _digest_of_code(files: tuple[str, ...]) -> str:
    return sha256("\n".join(sha256(Path(file).read_bytes()) for file in files))
