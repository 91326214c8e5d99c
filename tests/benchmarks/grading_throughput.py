"""Grading side by side with the bare tests: what the sandboxes, the checks and the defences of a grade cost.

    python -m tests.benchmarks.grading_throughput --results results/demo

In: the instances and rollouts of a run (`make demo` makes them) and the images that lie beside it. Each of the patches
is tested bare, by the same command in a sandbox that has started and holds the patch already: one after the other, and
as many at a time as there are cores, since cores slow each other down. Then all are graded by `swedag grade`, with as
many workers as there are cores. Out: the overhead, that is the wall time of grading over (sum of the bare times, one
after the other / cores), on the terminal and in results/benchmarks/grading_throughput.{md,json}; beside it that over
the same with bare tests at the same time. The target is printed as met or missed, never asserted.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from swedag.artifacts import read_jsonl, write_json, write_jsonl, write_text
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.grading import patches
from swedag.grading.run import GradingSettings, add_test_patch, test_command
from swedag.grading.tree import apply_patch
from swedag.instances import Instance, image_files, read_instances
from swedag.sandbox import Sandbox
from swedag.trajectory import Rollout
from tests.benchmarks import machine
from tests.benchmarks.peers import FOLDER
from tests.conftest import ROOT

OVERHEAD = 0.25  # target


def main(
    results: Annotated[Path, typer.Option(help="Folder of a run")] = ROOT / "results" / "demo",
    count: Annotated[int, typer.Option("--patches", help="Distinct patches to grade")] = 40,
    repeats: Annotated[int, typer.Option(help="Times that both are measured")] = 3,
) -> None:
    """Measure both, one after the other, and print the overhead."""
    console = Console(stderr=True)
    images = results.parent / "images"
    rows, instances = chosen(results, images, count)
    settings = GradingSettings(workers=machine.cores())
    state = machine.describe()
    measured: list[tuple[float, float, float]] = []
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            console.print(f"round {number + 1} of {repeats}: {len(rows)} patches, bare and graded")
            bare = [
                sum(bare_seconds(rows, instances, images, settings.timeout_seconds, at_a_time))
                for at_a_time in (1, machine.cores())
            ]
            wall, outcomes = graded(rows, results, images, settings, Path(folder) / str(number))
            measured.append((bare[0], bare[1], wall))
    state["load average at the end"] = machine.load()
    cores = machine.cores()
    overheads = [(wall / (alone / cores) - 1, wall / (beside / cores) - 1) for alone, beside, wall in measured]
    overhead, over_beside = (statistics.median(each) for each in zip(*overheads, strict=True))
    cells = [
        [str(number), *(f"{one:.1f}" for one in times), *(f"{100 * share:.0f} %" for share in shares)]
        for number, (times, shares) in enumerate(zip(measured, overheads, strict=True), 1)
    ]
    head = ["round", "bare tests, s", f"bare, {cores} at a time, s", "graded, wall s", "overhead", "over the latter"]
    text = "\n".join(
        [
            f"# Grading {len(rows)} patches of {results.name}",
            "",
            machine.table(head, cells),
            "",
            f"- overhead {100 * overhead:.0f} % (target {100 * OVERHEAD:.0f} %): "
            f"{'met' if overhead <= OVERHEAD else 'MISSED'}",
            f"- over bare tests that run {cores} at a time: {100 * over_beside:.0f} %",
            f"- outcomes: {', '.join(f'{name} {number}' for name, number in sorted(outcomes.items()))}",
            "",
            "; ".join(f"{key} {value}" for key, value in state.items()),
            "",
        ]
    )
    write_text(FOLDER / "grading_throughput.md", text)
    record = {
        "machine": state,
        "bare, beside and graded, s": measured,
        "overheads": overheads,
        "outcomes": dict(outcomes),
    }
    write_json(FOLDER / "grading_throughput.json", record)
    print(text)


def chosen(results: Path, images: Path, count: int) -> tuple[list[Rollout], dict[str, Instance]]:
    """`count` rollouts with distinct patches, evenly over the instances in turn; gold patches where there are fewer.

    SwedagError says how to make what is missing.
    """
    files = sorted(results.glob("rollouts/*/runs-*/shard-*.jsonl"))
    if not files:
        raise SwedagError(f"{results}: holds no rollouts; make them with `make demo`, or name a run with --results")
    instances = {
        key: row for path in sorted(results.glob("instances/*.jsonl")) for key, row in read_instances(path).items()
    }
    rows = [row for path in files for row in read_jsonl(path, Rollout)]
    gold = [rows[0].model_copy(update={"instance_id": key, "patch": row.patch}) for key, row in instances.items()]
    with_images = {key for key, row in instances.items() if all(path.is_file() for path in image_files(images, row))}
    turns: dict[str, dict[str, Rollout]] = {}
    for row in [*rows, *gold]:
        if row.instance_id in with_images and not patches.is_empty(row.patch):
            turns.setdefault(row.instance_id, {}).setdefault(row.patch, row)
    waiting = [list(different.values()) for _, different in sorted(turns.items())]
    in_turn = [
        different[turn]
        for turn in range(max(map(len, waiting), default=0))
        for different in waiting
        if turn < len(different)
    ]
    step = max(1, len(waiting) // count)  # so that all repositories have their part
    in_turn = in_turn[: step * count : step] + [row for row in in_turn[step * count :]]
    if len(in_turn) < count:
        raise SwedagError(f"{results}: has {len(in_turn)} distinct patches with images, fewer than {count}")
    return in_turn[:count], instances


def bare_seconds(
    rows: list[Rollout], instances: dict[str, Instance], images: Path, timeout: float, at_a_time: int
) -> list[float]:
    """Wall times of nothing but the test commands, each in a sandbox that holds its patch; all of `at_a_time` sandboxes
    are ready before any of them begins."""

    def ready(row: Rollout, stack: ExitStack) -> tuple[Sandbox, str]:
        instance = instances[row.instance_id]
        sandbox = stack.enter_context(Sandbox(*image_files(images, instance)))
        if not apply_patch(sandbox, row.patch).ok or add_test_patch(sandbox, instance):
            raise SwedagError(f"{row.instance_id}: a patch does not apply, so it has no bare time")
        return sandbox, f"cd /testbed; {test_command(instance, None)}"

    found: list[float] = []
    with ThreadPoolExecutor(at_a_time) as pool:
        for start in range(0, len(rows), at_a_time):
            with ExitStack() as stack:
                waiting = [ready(row, stack) for row in rows[start : start + at_a_time]]
                found += pool.map(lambda one: one[0].run(one[1], timeout).seconds, waiting)
    return found


def graded(
    rows: list[Rollout], results: Path, images: Path, settings: GradingSettings, work: Path
) -> tuple[float, Counter[str]]:
    """Wall time of `swedag grade` on the rows, its start included, and what it said."""
    write_jsonl(work / "rollouts.jsonl", rows)
    instances = [line for path in sorted(results.glob("instances/*.jsonl")) for line in read_jsonl(path, Instance)]
    write_jsonl(work / "instances.jsonl", instances)
    began = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "swedag", "grade", "--settings", settings.model_dump_json()),
            *("--instances", work / "instances.jsonl", "--rollouts", work / "rollouts.jsonl"),
            *("--images", images, "--work", work, "--output", work / "grades.jsonl"),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - began
    return wall, Counter(grade.outcome for grade in read_jsonl(work / "grades.jsonl", Grade))


if __name__ == "__main__":
    try:
        typer.run(main)
    except SwedagError as error:
        sys.exit(str(error))
