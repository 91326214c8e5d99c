"""The step `rollouts`: instances and a model in, one Rollout row per instance and run out, sorted by both."""

import logging
import time
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.logging import RichHandler

from swedag.artifacts import read_jsonl, write_jsonl
from swedag.errors import SwedagError
from swedag.images.record import ImageRecord, gone
from swedag.instances import Instance, image_files, read_instances
from swedag.journal import Journal
from swedag.lease import claim
from swedag.progress import CONSOLE, progress
from swedag.rollouts.attempt import Job
from swedag.rollouts.budget import money_spent
from swedag.rollouts.keys import derive_seed, rollout_key
from swedag.rollouts.settings import EndpointSettings, RolloutSettings
from swedag.rollouts.shard import Shard, sample, sample_outside
from swedag.serving import served
from swedag.trajectory import Rollout

M = TypeVar("M", bound=BaseModel)


def main(
    settings: Annotated[str, typer.Option(help="RolloutSettings as JSON")],
    policy: Annotated[str, typer.Option(help="Name of the policy, for the records")],
    instances: Annotated[Path, typer.Option(help="Instances (JSONL)")],
    images: Annotated[Path, typer.Option(help="Folder with envs/<environment>.sif and instances/<instance_id>.sqsh")],
    first_run: Annotated[int, typer.Option(help="First run (seed) of the block", min=0)],
    last_run: Annotated[int, typer.Option(help="Last run of the block", min=0)],
    work: Annotated[Path, typer.Option(help="Folder for the journal and the server's log, kept when the step fails")],
    output: Annotated[Path, typer.Option(help="Rollouts (JSONL)")],
    model: Annotated[Path | None, typer.Option(help="Model folder to serve")] = None,
    server_image: Annotated[
        Path | None, typer.Option(help="Apptainer image with vLLM (default: that of the tool environment)")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="EndpointSettings as JSON, in place of a model folder")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these instance ids (default: all)")] = None,
    records: Annotated[
        Path | None, typer.Option(help="What came of their images (.jsonl); instances without one are left out")
    ] = None,
) -> None:
    """Sample rollouts of a policy on instances: of a model folder, through a vLLM server that lives as long as this
    command, or of an endpoint elsewhere."""
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=CONSOLE, show_path=False)])
    chosen = _read("--settings", RolloutSettings, settings)
    if model and not endpoint:
        sampled: str | EndpointSettings = served(model, server_image)
    elif endpoint and not model and not server_image:
        sampled = _read("--endpoint", EndpointSettings, endpoint)
    else:
        raise SwedagError("give --model, or --endpoint without --server-image")
    rows = available(
        _select(read_instances(instances), only, instances), read_jsonl(records, ImageRecord) if records else []
    )
    runs = range(first_run, last_run + 1)
    made = [_job(row, run, policy, chosen, images) for row in rows for run in runs]
    with claim(work), Journal(work / "journal.jsonl") as journal:
        jobs = {rollout_key(job, chosen, sampled): job for job in made}
        kept = sum(key in journal for key in jobs)
        started = time.monotonic()
        with progress(f"rollouts of {policy}", len(jobs), kept) as advance:
            shard = Shard(jobs, chosen, journal, advance)
            if isinstance(sampled, EndpointSettings):
                sample_outside(shard, sampled)
            elif jobs and model:
                sample(shard, model, server_image, work / "server.log")
        spent = money_spent(journal)
        rollouts = [_row(shard, key) for key in jobs]
        _report(rollouts, kept, time.monotonic() - started, spent)
        _refuse_if_too_many_failed(rollouts, chosen, work)
        rollouts.sort(key=lambda row: (row.instance_id, row.run))
        write_jsonl(output, rollouts)


def _read(option: str, kind: type[M], text: str) -> M:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise SwedagError(f"{option}: {error}") from error


def _select(rows: dict[str, Instance], only: list[str] | None, file: Path) -> list[Instance]:
    unknown = sorted(set(only or []) - set(rows))
    if unknown:
        raise SwedagError(f"{file}: no instance {', '.join(unknown[:5])}; --only takes ids of that file")
    return [rows[name] for name in sorted(only or rows)]


def available(rows: list[Instance], records: list[ImageRecord]) -> list[Instance]:
    """Instances but those whose image is missing: their attempts are environment failures, not rollouts."""
    missing = {record.instance_id for record in records if record.outcome == "missing"}
    for name in sorted(missing & {row.instance_id for row in rows}):
        CONSOLE.print(f"{name}: no rollout, since it has no image", highlight=False, soft_wrap=True)
    return [row for row in rows if row.instance_id not in missing]


def _job(row: Instance, run: int, policy: str, settings: RolloutSettings, images: Path) -> Job:
    environment, layer = image_files(images, row)
    for image in (environment, layer):
        if image and not image.is_file():
            raise gone(image, row.instance_id)
    seed = derive_seed(settings.seed, row.instance_id, run)
    return Job(instance=row, run=run, policy=policy, seed=seed, environment=environment, layer=layer)


def _row(shard: Shard, key: str) -> Rollout:
    """The journaled rollout; where machinery prevented it, a row that says so."""
    payload, job = shard.journal.get(key), shard.jobs[key]
    if payload is not None:
        return Rollout.model_validate(payload)
    attempts, reason = shard.spent(key)
    return Rollout(
        instance_id=job.instance.instance_id,
        run=job.run,
        policy=job.policy,
        scaffold=shard.settings.scaffold.kind,
        seed=job.seed,
        temperature=shard.settings.temperature_of(job.run),
        messages=[],
        patch="",
        exit="infrastructure",
        error=reason,
        turns=0,
        prompt_tokens=0,
        completion_tokens=0,
        seconds=0.0,
        attempts=attempts,
    )


def _report(rollouts: list[Rollout], kept: int, seconds: float, dollars: float) -> None:
    paid = f", ${dollars:.4f} (${sum(row.dollars for row in rollouts):.4f} for these rollouts)" if dollars else ""
    tokens = sum(row.completion_tokens for row in rollouts)
    CONSOLE.print(
        f"{len(rollouts)} rollouts ({kept} from the journal) in {seconds:.0f} s: {tokens} tokens, "
        f"{sum(not row.patch for row in rollouts)} empty patches, "
        f"{sum(row.exit == 'infrastructure' for row in rollouts)} infrastructure failures{paid}",
        highlight=False,
        soft_wrap=True,
    )


def _refuse_if_too_many_failed(rollouts: list[Rollout], settings: RolloutSettings, work: Path) -> None:
    failed = [row for row in rollouts if row.exit == "infrastructure"]
    if len(failed) > settings.max_infrastructure_failures * len(rollouts):
        raise SwedagError(
            f"{len(failed)} of {len(rollouts)} rollouts failed for reasons of machinery, more than "
            f"max_infrastructure_failures = {settings.max_infrastructure_failures:g} allows. "
            f"The last reason: {failed[-1].error}. See {work / 'server.log'}; the others are kept for a rerun."
        )
