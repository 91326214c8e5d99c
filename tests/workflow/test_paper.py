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
    told = checkout.snakemake("all", *OPTIONS, "--dry-run", "--printshellcmds", profile="slurm")
    jobs = planned(told)
    # 500 + 300 + 2,119 + 230 instances in shards of 50: no job per instance. The fifth dataset is not run.
    assert (jobs["registry_images"], jobs["gates"], jobs["instances"]) == (64, 64, 5)
    assert jobs["rollouts"] == jobs["grade"] and jobs["train"] == 20 and jobs["train_verifier"] == 7
    # Training and vLLM run in containers there, whose wheels and images a plan without a profile does not count.
    assert jobs["total"] == 1 + planned_by_swedag(checkout.path / "config/paper.yaml") + 4 < 2_000
    assert jobs["tool_image"] == jobs["tool_wheels"] == 2

    in_report = re.search(
        r"(?m)^rule report:\n    input: (.*)\n(?:.+\n)*?Shell command: (.*)$", told.stdout + told.stderr
    )
    inputs, command = in_report[1].split(", "), in_report[2]
    # As one argument of `bash -c`, on Linux below 128 KiB.
    assert len(command) < 50_000
    expanded = subprocess.run(
        ["bash", "-c", f"echo {command.partition('&>')[0]}"], capture_output=True, text=True, check=True
    )
    for kind in ("rollouts", "grades", "scores"):
        given = [word for word in expanded.stdout.split() if word.startswith(f"results/paper/{kind}/")]
        assert given == [path for path in inputs if path.startswith(f"results/paper/{kind}/")] and len(given) > 200

    table = planned(checkout.snakemake("table5", *OPTIONS, "--dry-run", "--quiet", "rules"))
    # Two models: 30 rounds on 5 shards in 2 blocks for each of 2 iterations, and three evaluations on 6 shards.
    assert table["rollouts"] == 2 * (2 * 2 * 5 + 3 * 6) and table["train"] == 4 and table["table5"] == 1
    # Table 3 needs run 0 of the sixteen, and no verifier: six sets on 6 shards, six on 10.
    table = planned(checkout.snakemake("table3", *OPTIONS, "--dry-run", "--quiet", "rules"))
    assert table["rollouts"] == 6 * 6 + 6 * 10 and "train_verifier" not in table
    listed = checkout.snakemake("--list-rules", *OPTIONS).stdout.split()
    assert {f"table{n}" for n in range(1, 11)} | {f"figure{n}" for n in range(1, 9)} <= {*listed}
    assert {"section3", "section4", "figure1_training", "figure4_paper_estimator"} <= {*listed}
