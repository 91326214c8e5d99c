"""The whole DAG in small on a real Slurm: the same tables as on this machine, GPU jobs where the GPUs are."""

from collections import defaultdict
from pathlib import Path

import pytest

from tests.benchmarks.slurm_demonstration import jobs_of, submitted, table
from tests.conftest import Checkout
from tests.slurm.conftest import RESULTS, Site

pytestmark = pytest.mark.integration
GPU_RULES = {"rollouts", "score", "train", "train_verifier"}


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.mark.parametrize(
    "pattern", ["instances/*.jsonl", "attempts/*.csv", "sft/*.jsonl", "checkpoints/*/*.safetensors", "tables/*"]
)
def test_it_makes_what_the_local_run_makes(finished: Checkout, whole: Site, pattern: str):
    expected = files(finished.path / RESULTS, pattern)
    assert expected and files(whole.results, pattern) == expected


def test_gpu_jobs_run_on_the_node_with_gpus_and_only_they_have_one(whole: Site):
    jobs = ",".join(slurm for _, slurm in submitted(whole.runs[0].said()))
    lines = whole.cluster.say(
        "sacct", "-X", "--noheader", "--parsable2", f"--jobs={jobs}", "--format=Comment,NodeList,AllocTRES,State"
    ).splitlines()
    placed = defaultdict(set)
    for comment, node, resources, state in (line.split("|") for line in lines):
        rule = comment.strip().removeprefix("rule_").partition("_wildcards")[0]
        placed[rule, state].add((node, "gres/gpu=1" in resources))
    assert placed.keys() >= {(rule, "COMPLETED") for rule in GPU_RULES}
    for (rule, state), places in placed.items():
        assert state == "COMPLETED", rule
        if rule in GPU_RULES:
            assert places == {("gpu1", True)}, rule
        else:
            assert not any(gpu for _, gpu in places), rule


@pytest.mark.parametrize("rule", ["train", "train_verifier"])
def test_training_runs_in_its_image(whole: Site, rule: str):
    [log] = (whole.checkout.path / f"logs/slurm/rule_{rule}").rglob("*.log")
    assert "Activating singularity image results/images/tools/train-cpu.sif" in log.read_text()


@pytest.mark.parametrize("rule", ["rollouts", "score"])
def test_vllm_runs_in_its_image(whole: Site, rule: str):
    logs = list((whole.results / "work" / {"score": "scores"}.get(rule, rule)).rglob("server.log"))
    assert logs and all(" results/images/tools/serve-cpu.sif " in log.read_text() for log in logs)


def test_what_a_job_costs_beside_its_command_is_told(whole: Site):
    jobs = jobs_of(whole, whole.runs[0].said())
    assert {job.rule for job in jobs} >= GPU_RULES
    # sacct counts whole seconds.
    assert all(job.allocation - job.command > -1 and job.noticed >= -1 for job in jobs)
    print(table(jobs))


def test_nothing_is_to_be_done_twice(whole: Site):
    assert "Nothing to be done" in whole.start("all").finish()
