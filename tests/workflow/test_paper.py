"""config/paper.yaml through Snakemake: the whole paper is planned as a few thousand jobs, each experiment a target by name."""

import re
import subprocess
from pathlib import Path

import yaml

from swedag.config import load
from swedag.past import Past
from swedag.plan import Assumptions, plan
from tests.conftest import Checkout

OPTIONS = ("--configfile", "config/paper.yaml")


def planned(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    lines = re.findall(r"(?m)^ ?([a-z_0-9 ]+?) +(\d+) *$", done.stdout + done.stderr)
    return {name.replace(" ", "_"): int(count) for name, count in lines}


def planned_by_swedag(config: Path) -> int:
    chosen = load(yaml.safe_load(config.read_text()), [config])
    return sum(stage.jobs for stage in plan(chosen, Assumptions(), Past()))


def test_the_plan_of_the_demonstration_has_the_jobs_that_snakemake_has(checkout: Checkout):
    jobs = planned(checkout.snakemake("all", "--dry-run", "--quiet", "rules"))
    assert jobs["total"] == 1 + planned_by_swedag(checkout.path / "config/demo.yaml")


def test_the_whole_paper_is_planned_and_its_tables_are_targets(checkout: Checkout):
    jobs = planned(checkout.snakemake("all", *OPTIONS, "--dry-run", "--quiet", "rules"))
    # 500 + 300 + 2,119 + 230 instances in shards of 50: no job per instance.
    assert (jobs["registry_images"], jobs["registry_gates"], jobs["instances"]) == (64, 64, 4)
    assert jobs["rollouts"] == jobs["grade"] and jobs["train"] == 20 and jobs["train_verifier"] == 7
    assert jobs["total"] == 1 + planned_by_swedag(checkout.path / "config/paper.yaml") < 2_000

    table = planned(checkout.snakemake("table5", *OPTIONS, "--dry-run", "--quiet", "rules"))
    # Two models: 30 rounds on 5 shards in 2 blocks for each of 2 iterations, and three evaluations on 6 shards.
    assert table["rollouts"] == 2 * (2 * 2 * 5 + 3 * 6) and table["train"] == 4 and table["table5"] == 1
    listed = checkout.snakemake("--list-rules", *OPTIONS).stdout.split()
    assert {f"table{n}" for n in (1, 2, 3, 4, 5, 7, 8, 10)} | {f"figure{n}" for n in (1, 2, 4, 5, 6, 7, 8)} <= {*listed}
    assert {"section3", "figure1_training", "figure4_paper_estimator"} <= {*listed}
