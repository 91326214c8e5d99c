"""`swedag grade`: the outcome of every rollout of a shard.

In: rollouts, their instances, the images. Out: one grade per rollout, in the order of the rollouts. Each distinct
(instance, patch) is run once. Finished verdicts live in the journal, keyed by all that they depend on (the grader's own
code too), so a rerun repeats only what is missing; infrastructure failures are never kept there.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from swedag.artifacts import read_jsonl, sha256, sha256_file, write_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.grading.patches import is_empty
from swedag.grading.run import GradingSettings, grade_patch
from swedag.grading.verdict import Verdict
from swedag.instances import Instance, image_files, read_instances
from swedag.journal import Journal, code_digest, records
from swedag.lease import claim
from swedag.trajectory import Rollout

# Settings that change how fast a verdict comes, not the verdict.
NOT_PART_OF_THE_VERDICT = {"workers", "attempts", "max_infrastructure_failures"}
EMPTY = Verdict(outcome="empty_patch", resolved=False, official_resolved=False)


@dataclass(frozen=True)
class Task:
    """One distinct patch of one instance."""

    key: str
    instance: Instance
    patch: str


def main(
    settings: Annotated[str, typer.Option(help="GradingSettings as JSON")],
    instances: Annotated[Path, typer.Option(help="The instances, as JSONL")],
    rollouts: Annotated[Path, typer.Option(help="The rollouts to grade, as JSONL")],
    images: Annotated[Path, typer.Option(help="Folder of the images: envs/*.sif and instances/*.sqsh")],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="The grades, as JSONL")],
    workers: Annotated[int, typer.Option(help="Patches tested at the same time (0: as the settings say)")] = 0,
    known: Annotated[
        Path | None, typer.Option(help="Folder of other shards' journals, whose verdicts are used")
    ] = None,
) -> None:
    """Grade every rollout of a shard in fresh sandboxes."""
    chosen = GradingSettings.model_validate_json(settings)
    rows = read_jsonl(rollouts, Rollout)
    named = read_instances(instances)
    strangers = sorted({row.instance_id for row in rows} - set(named))
    if strangers:
        raise SwedagError(f"{rollouts}: instance_id {strangers[0]!r} is not in {instances}")
    runnable = [row for row in rows if row.exit != "infrastructure" and not is_empty(row.patch)]
    distinct = dict.fromkeys((row.instance_id, row.patch) for row in runnable)
    grader = f"{code_digest('grading.step')} {chosen.model_dump_json(exclude=NOT_PART_OF_THE_VERDICT)}"
    keys = {(name, patch): _key(named[name], patch, images, grader) for name, patch in distinct}
    tasks = [Task(key, named[name], patch) for (name, patch), key in keys.items()]
    others = records(known) if known else {}
    with claim(work), Journal(work / "journal.jsonl") as journal:
        for task in tasks:
            if task.key not in journal and task.key in others:
                journal.append(task.key, others[task.key])
        verdicts = _verdicts(tasks, images, chosen, journal, workers or chosen.workers)
    failed = [verdict.reason for verdict in verdicts.values() if verdict.outcome == "infrastructure_failure"]
    if len(failed) > chosen.max_infrastructure_failures * len(tasks):
        raise SwedagError(
            f"{rollouts}: {len(failed)} of {len(tasks)} patches could not be tested, so the shard is not graded: "
            f"{failed[0]}. Mend the machine (`swedag doctor`) and run again; the other verdicts are kept"
        )
    write_jsonl(output, (_grade(row, verdicts.get(keys.get((row.instance_id, row.patch), ""), EMPTY)) for row in rows))


def _verdicts(
    tasks: list[Task], images: Path, settings: GradingSettings, journal: Journal, workers: int
) -> dict[str, Verdict]:
    """Verdicts by key: those of the journal, and the rest as they are run."""
    kept = {task.key: journal.get(task.key) for task in tasks}
    verdicts = {key: Verdict.model_validate(payload) for key, payload in kept.items() if payload is not None}
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("patches graded", total=len(tasks), completed=len(verdicts))
        for task, verdict in _run([task for task in tasks if task.key not in verdicts], images, settings, workers):
            verdicts[task.key] = verdict
            if verdict.outcome != "infrastructure_failure":
                journal.append(task.key, verdict.model_dump(mode="json"))
            progress.advance(bar)
    return verdicts


def _run(tasks: list[Task], images: Path, settings: GradingSettings, workers: int) -> Iterator[tuple[Task, Verdict]]:
    """Each task with its verdict, as they come. On any error what was not begun is dropped.

    One more patch than `workers` is in work: sandboxes start and end with waits that would leave a core idle.
    """
    with ThreadPoolExecutor(workers + 1) as pool:
        try:
            futures = {
                pool.submit(grade_patch, task.instance, task.patch, *image_files(images, task.instance), settings): task
                for task in tasks
            }
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _grade(row: Rollout, verdict: Verdict) -> Grade:
    if row.exit == "infrastructure":
        lost = f"the rollout ended as an infrastructure failure: {row.error}"
        verdict = Verdict(outcome="infrastructure_failure", resolved=None, official_resolved=None, reason=lost)
    return Grade(instance_id=row.instance_id, run=row.run, patch_sha256=sha256(row.patch), **verdict.model_dump())


def _key(instance: Instance, patch: str, images: Path, grader: str) -> str:
    """What the verdict depends on: the instance's row, the patch, the grader, and the content of the images."""
    parts = [instance.model_dump_json(), patch, grader, *map(_content, image_files(images, instance))]
    return sha256("\0".join(parts))


@cache
def _content(path: Path | None) -> str:
    return sha256_file(path) if path and path.is_file() else "absent"
