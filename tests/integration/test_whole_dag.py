"""The whole DAG in small, on real Apptainer, vLLM and TRL: what it makes, what becomes stale, and what a kill costs."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from swedag.provenance.records import Lineage, upstream
from tests.conftest import ROOT, Checkout, copy_sources

pytestmark = pytest.mark.integration
CONFIG = ("--configfile", "config/mini.yaml")
RESULTS = Path("results/mini")


def files(checkout: Checkout, pattern: str) -> dict[str, bytes]:
    folder = checkout.path / RESULTS
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern))}


def test_every_kind_of_artifact_is_there(finished: Checkout):
    for pattern in (
        "instances/*.jsonl", "rollouts/*/runs-*/shard-*.jsonl", "grades/*/runs-*/shard-*.jsonl", "attempts/*.csv",
        "sft/*.jsonl", "sft/*.card.json", "checkpoints/*/model.safetensors", "verifiers/*/data.jsonl",
        "verifiers/*/checkpoint/model.safetensors", "scores/*/*/runs-*/shard-*.jsonl", "tables/*.csv", "tables/*.md",
        "tables/*.tex", "figures/*.svg", "figures/*.png", "report/index.html", "ro-crate-metadata.json",
        "../models/*/model.safetensors", "../images/os/*.sif", "../images/envs/*.sif", "../images/instances/*.sqsh",
        "images/*/shard-*.images.jsonl", "images/*/shard-*.gates.jsonl",
    ):  # fmt: skip
        assert list((finished.path / RESULTS).glob(pattern)), pattern


def test_every_attempt_has_its_row_and_an_outcome(finished: Checkout):
    for name, text in files(finished, "attempts/*.csv").items():
        rows = list(csv.DictReader(text.decode().splitlines()))
        assert len(rows) == len({(row["instance_id"], row["run"]) for row in rows}), name
        assert all(row["outcome"] for row in rows), name


def test_train_and_eval_share_no_function(finished: Checkout):
    targets = [
        {
            (row["source"], row["target"]["path"], row["target"]["function"])
            for row in map(json.loads, text.splitlines())
        }
        for text in files(finished, "instances/*.jsonl").values()
    ]
    assert len(targets) == 2 and not targets[0] & targets[1]


def planned(checkout: Checkout, *arguments: str) -> dict[str, int]:
    """Jobs by rule that a dry run would start."""
    done = checkout.snakemake("all", *CONFIG, "--dry-run", *arguments)
    table = re.findall(r"(?m)^ ([a-z_ ]+?) +(\d+) *$", done.stdout + done.stderr)
    return {name.replace(" ", "_"): int(count) for name, count in table if name not in ("total", "all")}


def test_nothing_is_to_be_done_twice(finished: Checkout):
    assert planned(finished) == {}, finished.snakemake("all", *CONFIG, "--dry-run").stdout
    again = finished.snakemake("all", *CONFIG)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_snakemakes_own_report_has_tables_figures_and_ours(finished: Checkout):
    finished.snakemake("all", *CONFIG, "--report", "report.zip")
    with zipfile.ZipFile(finished.path / "report.zip") as packed:
        names = {Path(name).name for name in packed.namelist()}
        text = packed.read("report/report.html").decode()
    assert {"iterations.csv", "iterations.svg", "index.html", "iterations.html"} <= names
    # Captions of the workflow, of a table and of a figure.
    for part in ("agents and verifiers as one DAG", "with 95 % intervals by bootstrap", "Intervals and bands"):
        assert part in text, part


SAMPLING = {"rollouts", "train", "base_model", "synthesize", "layers", "environment_image", "os_image"}


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text, (path, old)
        (root / path).write_text(text.replace(old, new, 1))

    return apply


def append(path: str, text: str = "\n# edited\n") -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root / path).write_text((root / path).read_text() + text)

    return apply


def delete(pattern: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        [path] = root.glob(pattern)
        path.unlink()

    return apply


# change, rules that must run, rules that must not
STALENESS = {
    "README": (append("README.md"), set(), {"*"}),
    "unrelated policy": (append("config/mini.yaml", "policies: {spare: {start: tiny, training_set: rft-1, training: rft}}\n"),
                         {"train", "report"}, {"rollouts", "grade", "base_model", "synthesize", "table"}),
    "plotting module": (append("workflow/swedag/figures/__init__.py"), {"figure", "report"}, SAMPLING | {"grade", "gates"}),
    "caption of a table": (edit("config/mini.yaml", "kind: iterations", "kind: iterations\n    caption: new"),
                           {"table", "report"}, SAMPLING | {"grade", "figure"}),
    "grading module": (append("workflow/swedag/grading/step.py"), {"grade", "attempts", "table", "report"},
                       {"base_model", "synthesize", "layers", "gates"}),
    "command line": (append("workflow/swedag/cli.py"), set(), {"*"}),
    "training recipe": (edit("config/mini.yaml", "rft: &recipe {", "rft: &recipe {weight_decay: 0.02, "),
                        {"train"}, {"base_model", "synthesize", "layers"}),
    "touched, not edited": (lambda root: (root / "workflow/swedag/grading/step.py").touch(), set(), {"*"}),
    "one rollout shard deleted": (delete("results/mini/rollouts/rft-1-eval/runs-*/shard-0.jsonl"),
                                  {"rollouts", "grade", "attempts", "table", "report"},
                                  {"train", "base_model", "synthesize", "layers", "training_set"}),
}  # fmt: skip


@pytest.mark.parametrize("change", STALENESS)
def test_what_a_change_makes_stale(finished: Checkout, change: str):
    apply, must, must_not = STALENESS[change]
    kept = [path for path in ("README.md", "config", "workflow") if (finished.path / path).exists()]
    saved = finished.path.with_name("saved")
    for path in kept:
        source = finished.path / path
        (shutil.copytree if source.is_dir() else shutil.copy2)(
            source, saved / path if source.is_dir() else _made(saved) / path
        )
    shard = {path: path.read_bytes() for path in (finished.path / RESULTS).glob("rollouts/*/runs-*/shard-*.jsonl")}
    times = {path: path.stat() for path in shard}
    try:
        apply(finished.path)
        jobs = planned(finished)
    finally:
        for path in kept:
            target = finished.path / path
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            shutil.move(saved / path, target)
        shutil.rmtree(saved)
        for path, data in shard.items():
            path.write_bytes(data)
            os.utime(path, ns=(times[path].st_atime_ns, times[path].st_mtime_ns))
    assert must <= set(jobs), jobs
    if must_not == {"*"}:
        assert jobs == {}
    assert not must_not & set(jobs), jobs
    if change == "one rollout shard deleted":
        assert jobs["rollouts"] == jobs["grade"] == 1


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_an_edited_row_has_its_own_layer_and_gate_made_again_and_no_other(finished: Checkout):
    shard = RESULTS / "images/train/shard-0.gates.jsonl"
    rows = finished.path / RESULTS / "instances/train.jsonl"
    text, ledger = rows.read_bytes(), (finished.path / shard).read_bytes()
    first, *others = map(json.loads, text.splitlines())
    instances = finished.path / "results/images/instances"
    before = {path: path.stat().st_mtime_ns for path in instances.iterdir()}
    [gated] = (finished.path / "results/work/gates").glob("mini/train/shard-0/journal.jsonl")
    known = len(gated.read_bytes().splitlines())
    try:
        rows.write_text("".join(f"{json.dumps(row)}\n" for row in (first | {"bug_patch": ""}, *others)))
        finished.snakemake(str(shard), *CONFIG)
        after = [json.loads(line) for line in (finished.path / shard).read_text().splitlines()]
        passed = {row["instance_id"]: row["passed"] for row in after}
        assert passed == {name: name != first["instance_id"] for name in passed} and len(passed) > 1
        now = {path: path.stat().st_mtime_ns for path in instances.iterdir()}
        assert {path.name for path in now if before.get(path) != now[path]} == {f"{first['instance_id']}.sqsh"}
        assert len(gated.read_bytes().splitlines()) == known + 1
    finally:
        rows.write_bytes(text)
    finished.snakemake(str(shard), *CONFIG)
    assert (finished.path / shard).read_bytes() == ledger
    assert len(gated.read_bytes().splitlines()) == known + 1, "the former row is known"
    finished.snakemake("all", *CONFIG)


def test_the_lineage_of_a_cell_names_every_file_and_one_byte_changes_all_above_it(finished: Checkout):
    table = f"{RESULTS}/tables/iterations.csv"
    before = upstream([Lineage(finished.path).node(table)])
    # Snakemake's own list of what the table needs: the first column, below its header.
    listed = finished.snakemake(table, *CONFIG, "--summary").stdout.splitlines()
    needed = {line.split("\t")[0] for line in listed if line.startswith("results/")}
    named = {path for path, node in before.items() if node.record}
    beside = {f"{RESULTS}/tables/iterations.md", f"{RESULTS}/tables/iterations.tex"}
    beside |= {path for path in needed if path.endswith(".card.json")}
    assert named <= needed <= before.keys() | beside
    assert all(node.sha256 and not node.changed for node in before.values())
    assert "workflow/swedag/grading/verdict.py" in before

    # `above` by the table of inputs alone, without the hashes.
    source = next(path for path in sorted(named) if path.endswith("instances/train.jsonl"))
    above, size = {source}, 0
    while size < len(above):
        size = len(above)
        above |= {path for path, node in before.items() if above & {other.path for other in node.inputs}}
    text = (finished.path / source).read_bytes()
    try:
        (finished.path / source).write_bytes(text[:-2] + b" " + text[-2:])
        after = upstream([Lineage(finished.path).node(table)])
    finally:
        (finished.path / source).write_bytes(text)
    assert {path for path in before if before[path].lineage != after[path].lineage} == above
    assert table in above and f"{RESULTS}/instances/eval.jsonl" in before.keys() - above


MOMENTS = {
    "rollouts": "work/rollouts/*/*/*/*.jsonl",
    "grading": "work/grades/*/*/*/*.jsonl",
    "training": "work/checkpoints/*/*/checkpoint-*",
}


def test_a_run_killed_in_rollouts_grading_and_training_ends_in_the_same_tables(finished: Checkout, tmp_path: Path):
    """SIGKILL to the whole process group as soon as each kind of unfinished work is on disk, then run again."""
    killed = copy_sources(tmp_path)
    shutil.copy2(ROOT / "tests/data/mini.yaml", killed.path / "config/mini.yaml")
    shutil.copytree(finished.path / "results/images", killed.path / "results/images")
    shutil.copytree(finished.path / "results/models", killed.path / "results/models")
    shutil.copytree(finished.path / RESULTS / "instances", killed.path / RESULTS / "instances")
    for moment, pattern in MOMENTS.items():
        before = {path for path in (killed.path / RESULTS).glob(pattern) if _has_work(path)}
        kill_when(
            killed,
            lambda pattern=pattern, before=before: any(
                path not in before and _has_work(path) for path in (killed.path / RESULTS).glob(pattern)
            ),
            moment,
        )
        killed.snakemake("--unlock", *CONFIG)
    killed.snakemake("all", *CONFIG)
    for pattern in ("rollouts/*/*/*.jsonl", "attempts/*.csv", "sft/*.jsonl", "tables/*"):
        expected = without_times(files(finished, pattern))
        assert without_times(files(killed, pattern)) == expected, pattern


def _has_work(path: Path) -> bool:
    return path.is_dir() or path.stat().st_size > 0


def without_times(contents: dict[str, bytes]) -> dict[str, object]:
    """Rollout rows say how long they took; everything else in them must agree."""
    return {
        name: [
            {key: value for key, value in json.loads(line).items() if key not in ("seconds", "attempts")}
            for line in data.splitlines()
        ]
        if name.startswith("rollouts/")
        else data
        for name, data in contents.items()
    }


def kill_when(checkout: Checkout, ready: Callable[[], bool], moment: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(checkout.path / "workflow")}
    with (checkout.path / f"killed-in-{moment}.log").open("w") as log:
        process = subprocess.Popen(
            ["snakemake", "all", *CONFIG, "--profile", "local"],
            cwd=checkout.path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        family = psutil.Process(process.pid)
        while not ready():
            assert process.poll() is None, f"ended before {moment}: {Path(log.name).read_text()[-3000:]}"
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        children = family.children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive, f"left behind after the kill: {[child.cmdline() for child in alive if child.is_running()]}"
