"""Planning the whole paper: how long Snakemake takes to say what it would do, and in how much memory.

    python -m tests.benchmarks.plan_paper

`snakemake --profile slurm -n all` on config/paper.yaml as it is, and with twenty times the rollouts of each set. Out:
jobs by rule, wall and CPU seconds and peak memory, on the terminal and in results/benchmarks/plan_paper.{md,json}. The
targets are printed as met or missed, never asserted. Run it in a checkout without results/paper: what exists is not planned.
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from swedag.artifacts import write_json, write_text
from swedag.config import Config, load
from tests.benchmarks import machine
from tests.conftest import ROOT

FOLDER = ROOT / "results" / "benchmarks"
TIMES = 20
SECONDS, MEGABYTES, SECONDS_OF_MANY = 15, 500, 60  # targets


@dataclass(frozen=True)
class Plan:
    """A dry run: seconds, and MB of resident memory at its peak."""

    rollouts: int
    jobs: dict[str, int]
    wall: float
    cpu: float
    memory: float


def main(
    repeats: Annotated[int, typer.Option(help="Times that each is planned; the median by wall time counts")] = 3,
) -> None:
    """Plan both, and print jobs by rule, time and memory."""
    state = machine.describe()
    once = ROOT / "config/paper.yaml"
    many = FOLDER / f"paper-{TIMES}.yaml"
    write_text(many, yaml.safe_dump(multiplied(yaml.safe_load(once.read_text()), TIMES), sort_keys=False))
    plans = {"paper": median(once, repeats), f"paper, {TIMES} times the rollouts": median(many, repeats)}
    state["load average at the end"] = machine.load()
    first, second = plans.values()
    rules = [[rule, f"{count:,}", f"{second.jobs[rule]:,}"] for rule, count in first.jobs.items()]
    measured = [
        [
            name,
            f"{plan.rollouts:,}",
            f"{plan.jobs['total']:,}",
            f"{plan.wall:.1f}",
            f"{plan.cpu:.1f}",
            f"{plan.memory:.0f}",
        ]
        for name, plan in plans.items()
    ]
    verdicts = [
        f"paper: {first.wall:.1f} s (target {SECONDS}): {met(first.wall <= SECONDS)}",
        f"paper: {first.memory:.0f} MB (target {MEGABYTES}): {met(first.memory <= MEGABYTES)}",
        f"{TIMES} times: {second.wall:.1f} s (target {SECONDS_OF_MANY}): {met(second.wall <= SECONDS_OF_MANY)}",
    ]
    text = "\n".join(
        [
            "# Planning the paper",
            "",
            machine.table(["config", "rollouts", "jobs", "wall, s", "CPU, s", "peak memory, MB"], measured),
            "",
            *(f"- {verdict}" for verdict in verdicts),
            "",
            machine.table(["rule", *plans], rules),
            "",
            *(f"- {name}: {value}" for name, value in state.items()),
            "",
        ]
    )
    write_text(FOLDER / "plan_paper.md", text)
    write_json(FOLDER / "plan_paper.json", {"machine": state, **{name: asdict(plan) for name, plan in plans.items()}})
    print(text)


def met(target: bool) -> str:
    return "met" if target else "MISSED"


def multiplied(values: dict[str, Any], times: int) -> dict[str, Any]:
    """The config with so many times the runs of every rollout set."""
    for block in values["self_improvement"].values():
        block["sample"] = block["sample"] | {"runs": times * block["sample"]["runs"]}
        block["evaluate"] = block["evaluate"] | {"runs": times * block["evaluate"]["runs"]}
    for name, one in values["rollouts"].items():
        values["rollouts"][name] = one | {"runs": times * one["runs"]}
    return values


def median(config: Path, repeats: int) -> Plan:
    return sorted((planned(config) for _ in range(repeats)), key=lambda plan: plan.wall)[repeats // 2]


def planned(config: Path) -> Plan:
    """One dry run in a process of its own, measured by the kernel."""
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--dry-run", "--quiet", "rules"]
    command += ["all", "--configfile", str(config)]
    log = FOLDER / "plan_paper.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    with log.open("w") as stream:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"snakemake failed; see {log}")
    found: dict[str, int] = {}
    for name, count in re.findall(r"(?m)^([a-z_0-9]+) +(\d+)$", log.read_text()):
        found[name] = int(count)
    chosen: Config = load(yaml.safe_load(config.read_text()), [config])
    rollouts = sum(made.runs * len(chosen.instance_ids(made.dataset)) for made in chosen.rollouts.values())
    return Plan(rollouts, found, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    typer.run(main)
