"""`swedag init-site`: ask Slurm about its accounts, partitions and GPUs, and write them to the site file.

In: the answers of `sinfo`, `sacctmgr` and `scontrol` on a login node. Out: `slurm/site.yaml`, and what a person should
know about this Slurm before a long run.
"""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from swedag.artifacts import write_text
from swedag.errors import SwedagError
from swedag.site import SITE_FILE, Site, read_site

PATIENCE_SECONDS = 60
# Snakemake looks at least every 180 s; Slurm must remember a job that has ended for longer.
LONGEST_LOOK_SECONDS = 180
UNLIMITED_MINUTES = 7 * 1440
GPU = re.compile(r"gpu(?::(?P<type>[A-Za-z][\w.-]*))?:(?P<count>\d+)")


@dataclass(frozen=True)
class Partition:
    """A partition as `sinfo` tells it; memory, cores and GPUs are those of its smallest nodes."""

    name: str
    default: bool
    minutes: int
    nodes: int
    cores: int
    memory_mb: int
    gpus: int
    gpu_type: str | None


def main(
    output: Annotated[Path, typer.Option(help="The site file")] = SITE_FILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be written")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a site file that is there")] = False,
    cpu_partition: Annotated[str | None, typer.Option(help="Partition of jobs without GPUs")] = None,
    gpu_partition: Annotated[str | None, typer.Option(help="Partition of jobs with GPUs")] = None,
    account: Annotated[str | None, typer.Option(help="Account that pays")] = None,
    node_local: Annotated[
        str | None, typer.Option(help="Folder on the nodes' own disks, e.g. '/local/$SLURM_JOB_ID'")
    ] = None,
) -> None:
    """Ask Slurm what this cluster is like, and write it where `--profile slurm` reads it."""
    if output.exists() and not (dry_run or force):
        raise SwedagError(f"{output}: is there already; edit it, or run with --force to replace it")
    found = partitions(ask("sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G"))
    config = settings(ask("scontrol", "show", "config"))
    accounts, default_account = _accounts(config)
    if account and accounts and account not in accounts:
        raise SwedagError(f"--account {account}: Slurm knows these of yours: {', '.join(accounts)}")
    cpu, gpu = _choose(found, cpu_partition, gpu=False), _choose(found, gpu_partition, gpu=True)
    if cpu is None:
        raise SwedagError("sinfo lists no partition that is up; ask the cluster's operators, then run this again")
    site = Site(
        account=account or default_account,
        cpu_partition=cpu.name,
        cpu_minutes=cpu.minutes,
        cpu_memory_mb=cpu.memory_mb,
        cpu_cores=cpu.cores,
        gpu_partition=gpu.name if gpu else None,
        gpu_minutes=gpu.minutes if gpu else cpu.minutes,
        gpu_memory_mb=gpu.memory_mb if gpu else cpu.memory_mb,
        gpu_cores=gpu.cores if gpu else cpu.cores,
        gpus=gpu.gpus if gpu else 0,
        gpu_type=gpu.gpu_type if gpu else None,
        node_local=node_local,
        status_command=_status_command(config),
    )
    console = Console()
    console.print(_shown(found, site))
    console.print(_yaml(site), markup=False, highlight=False, soft_wrap=True)
    for remark in _remarks(config, accounts, site):
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    if not dry_run:
        write_text(output, _yaml(site))
        read_site(output)
        console.print(f"written to {output}; edit it as you like, it is not in git", highlight=False, soft_wrap=True)


def ask(*command: str) -> str:
    """What a command of Slurm's prints. SwedagError where there is no Slurm, or none that answers."""
    if not shutil.which(command[0]):
        raise SwedagError(
            f"no `{command[0]}` on PATH: run this on a login node of the cluster (perhaps after `module load slurm`). "
            "Without Slurm use `--profile local`"
        )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise SwedagError(f"`{' '.join(command)}` gave no answer for {PATIENCE_SECONDS} s: is slurmctld up?") from error
    if done.returncode:
        raise SwedagError(f"`{' '.join(command)}` failed: {done.stderr.strip() or 'it said nothing'}")
    return done.stdout


def partitions(text: str) -> list[Partition]:
    """The partitions that are up, from lines `name|state|time limit|nodes|cores|memory|generic resources`."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        name, state, limit, nodes, cores, memory, resources = line.split("|")
        if state != "up":
            continue
        gpu = GPU.search(resources)
        one = Partition(
            name=name.removesuffix("*"),
            default=name.endswith("*"),
            minutes=minutes(limit),
            nodes=int(nodes),
            cores=int(cores.rstrip("+")),
            memory_mb=int(memory.rstrip("+")),
            gpus=int(gpu["count"]) if gpu else 0,
            gpu_type=gpu["type"] if gpu else None,
        )
        found[one.name] = _merged(found[one.name], one) if one.name in found else one
    return list(found.values())


def _merged(one: Partition, other: Partition) -> Partition:
    """Two kinds of nodes of one partition: what each has."""
    return Partition(
        name=one.name,
        default=one.default,
        minutes=one.minutes,
        nodes=one.nodes + other.nodes,
        cores=min(one.cores, other.cores),
        memory_mb=min(one.memory_mb, other.memory_mb),
        gpus=min(one.gpus, other.gpus),
        gpu_type=one.gpu_type if one.gpu_type == other.gpu_type else None,
    )


def minutes(limit: str) -> int:
    """Minutes of Slurm's days-hours:minutes:seconds, or of `infinite`."""
    if limit in ("infinite", "UNLIMITED", "n/a"):
        return UNLIMITED_MINUTES
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, rest, _ = [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + hours * 60 + rest


def settings(text: str) -> dict[str, str]:
    """Names and values of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _accounts(config: dict[str, str]) -> tuple[list[str], str | None]:
    """The user's accounts, and the one that Slurm takes when none is named; nothing where there is no accounting."""
    if config.get("AccountingStorageType", "").endswith("none"):
        return [], None
    user = getpass.getuser()
    of_user = ("--noheader", "--parsable2", "show")
    listed = ask("sacctmgr", *of_user, "associations", f"user={user}", "format=account").split()
    default = ask("sacctmgr", *of_user, "user", user, "format=defaultaccount").split()
    return sorted(set(listed)), default[0] if default else None


def _choose(found: list[Partition], named: str | None, gpu: bool) -> Partition | None:
    """The partition that was asked for; else Slurm's default if it is of the kind, else the one with most nodes."""
    if named:
        if named not in {one.name for one in found}:
            raise SwedagError(f"no partition {named} is up; there are {', '.join(one.name for one in found)}")
        return next(one for one in found if one.name == named)
    of_kind = [one for one in found if bool(one.gpus) == gpu] or ([] if gpu else found)
    return max(of_kind, key=lambda one: (one.default, one.gpus, one.nodes), default=None)


def _status_command(config: dict[str, str]) -> str:
    age = re.match(r"\d+", config.get("MinJobAge", ""))
    short = age is not None and int(age[0]) <= LONGEST_LOOK_SECONDS
    return "sacct" if short and not config.get("AccountingStorageType", "").endswith("none") else "squeue"


def _remarks(config: dict[str, str], accounts: list[str], site: Site) -> Iterator[str]:
    if len(accounts) > 1:
        yield f"you may use the accounts {', '.join(accounts)}; chosen is Slurm's default"
    if config.get("MinJobAge") and site.status_command == "sacct":
        yield (
            f"Slurm forgets jobs after MinJobAge = {config['MinJobAge']}, so that Snakemake must ask sacct, and does "
            "not notice a job that was cancelled by hand: stop Snakemake (Ctrl-C) and start it again"
        )
    if "CANCEL" in config.get("PreemptMode", ""):
        yield "preempted jobs are cancelled here, not queued again: use a partition without preemption"
    if "SLURM_CONF" in os.environ:
        yield "SLURM_CONF is set here, but the jobs' own srun does not get it: it must find Slurm without (docs/hpc.md)"
    if Path.cwd().is_relative_to(Path.home()):
        yield "this checkout lies in your home; images and results are large: clone to a scratch file system"
    if not site.gpus:
        yield "no GPUs were found: every rule runs on CPUs, which is enough for config/demo.yaml alone"


def _shown(found: list[Partition], site: Site) -> Table:
    table = Table("partition", "nodes", "cores", "memory, GB", "GPUs", "limit, h", "use")
    uses = {site.gpu_partition: "GPU jobs", site.cpu_partition: "other jobs"}
    for one in found:
        gpus = f"{one.gpus} {one.gpu_type or ''}".strip() if one.gpus else ""
        limit, memory = f"{one.minutes / 60:g}", f"{one.memory_mb / 1000:g}"
        table.add_row(one.name, str(one.nodes), str(one.cores), memory, gpus, limit, uses.get(one.name, ""))
    return table


def _yaml(site: Site) -> str:
    """The file: a line for each value, with what it means; a value left to Slurm is null."""
    lines = ["# This cluster, as `swedag init-site` found it. $SWEDAG_<NAME IN CAPITALS> overrides a line for one run."]
    for name, value in site.model_dump().items():
        text = "null" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
        lines.append(f"{name}: {text}  # {Site.model_fields[name].description}")
    return "\n".join(lines) + "\n"
