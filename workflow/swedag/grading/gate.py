"""`swedag gate`: the ledger row of an instance's image, and whether it may be used.

In: an instance, its images. Out: a JSON row with content hashes, sizes and the gate: with the gold patch the instance
is resolved, in each of `repeat` runs, and with an empty patch it is not. Tests whose status varies between the runs are
named. A gate that is not passed is a row too, never a crash.
"""

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict

from swedag.apptainer import find_apptainer, run_tool
from swedag.artifacts import sha256_file, write_json
from swedag.errors import SwedagError
from swedag.grades import Outcome
from swedag.grading.run import GradingSettings, grade_patch
from swedag.grading.verdict import Verdict
from swedag.images.record import ImageRecord, gone
from swedag.instances import Instance, image_files, read_instances
from swedag.squashfs import inodes


class LedgerRow(BaseModel):
    """An image and its gate. `bytes` and `inodes` are those of the instance's own layer, or of its whole image.

    `image` and `oci_digest` are those in the registry, for published images; a missing one has no content hash.
    `runs`: of the gold patch; `gold_outcome` is the first that is not `resolved`, if any. `flaky`: the named tests
    (FAIL_TO_PASS and PASS_TO_PASS) that did not have the same status in all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_id: str
    image: str = ""
    oci_digest: str = ""
    layer_sha256: str = ""
    bytes: int = 0
    inodes: int = 0
    environment: str = ""
    environment_sha256: str = ""
    apptainer: str
    gold_outcome: Outcome
    empty_outcome: Outcome
    runs: int = 1
    flaky: list[str] = []
    passed: bool
    reason: str = ""


def main(
    instance: Annotated[str, typer.Option(help="instance_id")],
    instances: Annotated[Path, typer.Option(help="The instances, as JSONL")],
    images: Annotated[Path, typer.Option(help="Folder of the images: envs/*.sif and instances/*.sqsh")],
    settings: Annotated[str, typer.Option(help="GradingSettings as JSON")],
    output: Annotated[Path, typer.Option(help="The ledger row, as JSON")],
    repeat: Annotated[
        int, typer.Option(min=0, help="Runs of the gold patch, to find flaky tests (0: as the settings say)")
    ] = 0,
) -> None:
    """Check an instance's image with the gold patch and with an empty one, and write its ledger row."""
    chosen = GradingSettings.model_validate_json(settings)
    rows = read_instances(instances)
    if instance not in rows:
        raise SwedagError(f"{instances}: no instance {instance!r}")
    row = ledger_row(rows[instance], images, chosen.model_copy(update={"repeat": repeat or chosen.repeat}))
    write_json(output, row.model_dump(mode="json"))


def ledger_row(
    instance: Instance,
    images: Path,
    settings: GradingSettings,
    record: ImageRecord | None = None,
    sandboxes: Executor | None = None,
) -> LedgerRow:
    """The runs are those of `sandboxes`, or two at a time. SwedagError if an image is absent or the machine cannot.

    `record`: what came of the instance's image. That there is none is a row, too.
    """
    if record and record.outcome == "missing":
        return LedgerRow(
            instance_id=instance.instance_id,
            image=record.image,
            environment=instance.environment,
            apptainer=_apptainer(),
            gold_outcome="environment_failure",
            empty_outcome="environment_failure",
            passed=False,
            reason=f"no image {record.image}: {record.reason}" if record.image else record.reason,
        )
    environment, layer = image_files(images, instance)
    for path in (environment, layer):
        if path and not path.is_file():
            raise gone(path, instance.instance_id)
    own = layer or environment
    own_sha256 = sha256_file(own)
    if record and own.resolve() == (images / record.file).resolve() and record.sha256 != own_sha256:
        raise SwedagError(
            f"{own.resolve()}: not the file that was {record.outcome}; delete it and the shard-<n>.images.jsonl that "
            f"names {instance.instance_id} to have it made again"
        )

    once = settings.model_copy(update={"repeat": 1})

    def outcome(patch: str) -> Verdict:
        return grade_patch(instance, patch, environment, layer, once, run_empty=True)

    with nullcontext(sandboxes) if sandboxes else ThreadPoolExecutor(2) as pool:
        empty, *golds = pool.map(outcome, ("", *[instance.patch] * settings.repeat))
    for verdict in (empty, *golds):
        if verdict.outcome == "infrastructure_failure":
            raise SwedagError(f"{instance.instance_id}: the gate could not be run: {verdict.reason}")
    reasons = []
    bad = [gold for gold in golds if gold.outcome != "resolved"]
    gold = (bad or golds)[0]
    if bad:
        share = f" in {len(bad)} of {len(golds)} runs" if len(golds) > 1 else ""
        reasons.append(f"the gold patch is {gold.outcome}{share}: {gold.reason}")
    if empty.outcome not in ("unresolved", "timeout"):
        reasons.append(f"the empty patch is {empty.outcome}: {empty.reason}")
    return LedgerRow(
        instance_id=instance.instance_id,
        image=record.image if record else "",
        oci_digest=record.digest if record else "",
        layer_sha256=own_sha256,
        bytes=own.stat().st_size,
        inodes=inodes(own),
        environment=instance.environment,
        environment_sha256=sha256_file(environment) if layer else "",
        apptainer=_apptainer(),
        gold_outcome=gold.outcome,
        empty_outcome=empty.outcome,
        runs=len(golds),
        flaky=[test for test in gold.tests if len({run.tests.get(test) for run in golds}) > 1],
        passed=not reasons,
        reason="; ".join(reasons),
    )


def _apptainer() -> str:
    return run_tool("Apptainer", find_apptainer(), "--version").strip()
