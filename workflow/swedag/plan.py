"""`swedag plan`: what a config comes to before anything runs: jobs, hours, GB, inodes and Docker pulls by stage.

In: a config; results and benchmarks of past runs, which take the place of assumptions wherever they measured the same.
Out: a table on stdout, or CSV, and the assumptions it rests on. Nothing is fetched; what exists is not subtracted.
"""

import csv
import math
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.table import Table

from swedag.config import Config, RolloutSet, load
from swedag.datasets.specs import spec_files
from swedag.errors import SwedagError
from swedag.images.spec import find, suite
from swedag.past import Past, read_past, repository
from swedag.rollouts import RolloutSettings
from swedag.tables import code_of

HOUR = 3600
BILLION = 1e9
WINDOW_HOURS = 6
WIDTH = 120
PULLS = {"without an account": 100, "with an account": 200}
# Of a job: its output, log, benchmark and Snakemake's record; of an image: the SIF, its facts, its tag and its link.
INODES_PER_JOB, INODES_PER_IMAGE, INODES_PER_MODEL = 4, 4, 12


class Assumptions(BaseModel):
    """What is not known before the first run. Each can be set with --assume NAME=VALUE."""

    model_config = ConfigDict(extra="forbid")

    image_gb: float = Field(2.6, gt=0, description="GB of a published image, and of its SIF (paper, section 2.1)")
    pull_cpu_seconds: float = Field(130, ge=0, description="to convert one (OpenHands: 132 s to build one)")
    layer_gb: float = Field(0.006, gt=0, description="GB of a layer that is built here (docs/images.md)")
    layer_cpu_seconds: float = Field(7, ge=0, description="to build one (docs/images.md)")
    test_cpu_seconds: float = Field(
        260, ge=0, description="to test one patch (Epoch AI: 500 instances of SWE-bench in 67 min on 32 cores)"
    )
    codeact_gpu_seconds: float = Field(
        0.4, ge=0, description="per rollout and 10⁹ parameters (5,000 tokens at 390 a second from 32·10⁹); mini, too"
    )
    moatless_gpu_seconds: float = Field(
        0.2, ge=0, description="per rollout and 10⁹ parameters (its authors: 300 in 30 min by 32·10⁹ on one H100)"
    )
    rollout_cpu_seconds: float = Field(60, ge=0, description="of sandboxes and commands per rollout (a guess)")
    rollout_gb: float = Field(80e-6, ge=0, description="GB of a rollout (paper, Table 8: 18,600 tokens)")
    server_start_seconds: float = Field(300, ge=0, description="until a job's vLLM server answers, on all its GPUs")
    resolved_share: float = Field(0.06, gt=0, le=1, description="of sampled rollouts (paper, Table 10: 5 to 9 %)")
    solved_share: float = Field(0.6, gt=0, le=1, description="instances per resolved rollout (paper: 294 of 491)")
    imported_resolved: int = Field(491, ge=0, description="resolved rollouts of an import (paper: 491 of 6,055)")
    trajectory_tokens: int = Field(18_600, ge=1, description="of a resolved rollout (paper, Table 8)")
    endpoint_dollars: float = Field(
        1, ge=0, description="dollars of a rollout at an endpoint with prices (paper: more than 1 per task)"
    )
    gpu_flops: float = Field(4e14, gt=0, description="operations a second that training reaches (40 % of an H100)")


@dataclass(frozen=True)
class Stage:
    """A line of the plan. `units` are images, rollouts, patches, rows …; hours and GB are sums over all jobs."""

    stage: str
    jobs: int
    units: int
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    gigabytes: float = 0.0
    inodes: int = 0
    pulls: int = 0
    dollars: float = 0.0


def main(
    config: Annotated[list[Path], typer.Argument(help="The config to plan; what later files say replaces the earlier")],
    past: Annotated[
        list[str] | None, typer.Option(help="Names of past runs to learn from, beside the config's own run")
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder with results/ and benchmarks/")] = Path(),
    assume: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of an assumption")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table as CSV, without assumptions")] = False,
) -> None:
    """Tell what a config costs before anything runs: a table by stage, and what it rests on.

    The images that jobs run in with `--sdm apptainer` are the profile's, and not counted.
    """
    chosen, known = load(read_together(config), [*config]), assumptions(assume or [])
    measured = read_past(root, [chosen.run, *(past or [])])
    stages = plan(chosen, known, measured)
    if as_csv:
        writer = csv.DictWriter(sys.stdout, list(asdict(stages[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(stage).items()}
            for stage in stages
        )
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(_table(stages))
    pulls = sum(stage.pulls for stage in stages)
    for account, limit in PULLS.items() if pulls else ():
        console.print(f"{pulls:,} Docker pulls {account} ({limit} in {WINDOW_HOURS} h): {pull_hours(pulls, limit):,} h")
    for name, field in Assumptions.model_fields.items():
        console.print(f"  {name} = {getattr(known, name):g} {field.description}", style="dim", soft_wrap=True)
    told = ", ".join(sorted(measured.used)) or "nothing: there are no past runs of the same kind"
    console.print(f"Measured by past runs in their place: {told}", soft_wrap=True)


def read_together(files: list[Path]) -> dict[str, Any]:
    """The values of several configs, one over the other, as `snakemake --configfile` takes them."""
    from snakemake.utils import update_config

    values: dict[str, Any] = {}
    for file in files:
        try:
            found = yaml.safe_load(file.read_text())
        except OSError as error:
            raise SwedagError(f"{file}: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise SwedagError(f"{file}: cannot be read as YAML: {error}") from error
        if not isinstance(found, dict):
            raise SwedagError(f"{file}: holds no keys")
        update_config(values, found)
    return values


def assumptions(given: list[str]) -> Assumptions:
    """The defaults with what `NAME=VALUE` sets; SwedagError names what cannot be set so."""
    pairs = dict(one.partition("=")[::2] for one in given)
    try:
        return Assumptions.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        names = ", ".join(Assumptions.model_fields)
        raise SwedagError(f"--assume {'.'.join(map(str, first['loc']))}: {first['msg']} (known: {names})") from error


def pull_hours(pulls: int, limit: int) -> int:
    """Hours until the last of `pulls` may begin: the first `limit` at once, then `limit` per window."""
    return max(0, math.ceil(pulls / limit) - 1) * WINDOW_HOURS


def plan(config: Config, known: Assumptions, past: Past) -> list[Stage]:
    """The stages of a run in the order of its data. Jobs are those that Snakemake plans for `all`."""
    return [
        _rows(config),
        _images(config, known, past),
        _gates(config, known, past),
        _models(config),
        _rollouts(config, known, past),
        _grades(config, known, past),
        _training_sets(config),
        _training(config, known, past),
        _verifiers(config, known, past),
        _scores(config, known, past),
        _shown(config),
    ]


def _published(config: Config, source: str) -> list[str]:
    """Datasets with images of that source, `registry` or `build`; `made` for those of kinds that make their own."""
    found = []
    for name in config.runnable_datasets():
        images = getattr(config.datasets[name], "images", None)
        if (images.source if images else "made") == source:
            found.append(name)
    return found


def _rows(config: Config) -> Stage:
    sources = [getattr(one, "source", None) for one in (*config.datasets.values(), *config.imports.values())]
    fetched = {source.rows_file() for source in sources if source is not None and source.kind == "hub"}
    jobs = len(fetched) + len(config.datasets) + len(config.imports)
    return Stage("instances", jobs, sum(len(config.instance_ids(name)) for name in config.datasets), inodes=4 * jobs)


def _images(config: Config, known: Assumptions, past: Past) -> Stage:
    registry, own = _published(config, "registry"), _published(config, "made")
    names = {config.datasets[d].images.image_of(one) for d in registry for one in config.instance_ids(d)}  # type: ignore[union-attr]
    built = {one for name in [*own, *_published(config, "build")] for one in config.instance_ids(name)}
    used = {env for name in [*own, *_published(config, "build")] for env in config.environments_of(name).values()}
    environments = used & config.environments.keys()
    suites = {config.environments[name].suite for name in environments} | _spec_suites(config)
    made = [*config.spec_environments(), *config.slim_environments()]
    sources = {source for name in own for source in config.datasets[name].sources()}  # type: ignore[union-attr]
    read = [name for table in config.tables.values() for name in code_of(table)]
    cloned = {*_published(config, "build"), *(name for name in read if config.datasets[name].kind == "published")}
    mirrors = {one.rpartition("-")[0] for name in cloned for one in config.instance_ids(name)}
    jobs = sum(map(config.shards, config.runnable_datasets())) + len(suites) + 2 * len(environments)
    jobs += len(sources) + len(mirrors) + len(made)
    return Stage(
        "images",
        jobs,
        len(names) + len(built),
        cpu_hours=(
            len(names) * past.cpu("pulls", known.pull_cpu_seconds)
            + len(built) * past.cpu("layers", known.layer_cpu_seconds)
        )
        / HOUR,
        gigabytes=len(names) * past.gigabytes("pulls", known.image_gb)
        + len(built) * past.gigabytes("layers", known.layer_gb),
        inodes=INODES_PER_JOB * jobs + INODES_PER_IMAGE * len(names),
        pulls=len(names),
    )


def _spec_suites(config: Config) -> set[str]:
    """Operating systems below the environments of config/specs that are built."""
    found = set()
    for environment, dataset in config.spec_environments().items():
        images = config.datasets[dataset].images  # type: ignore[union-attr]
        some = next(one for one, name in config.environments_of(dataset).items() if name == environment)
        _, described = find(spec_files([repository(some)])[0], environment, images)  # type: ignore[arg-type]
        found.add(suite(described, images))  # type: ignore[arg-type]
    return found


def _gates(config: Config, known: Assumptions, past: Past) -> Stage:
    jobs = sum(map(config.shards, config.runnable_datasets()))
    ids = {one for name in config.runnable_datasets() for one in config.instance_ids(name)}
    seconds = (1 + config.grading.repeat) * known.test_cpu_seconds
    cpu = sum(past.cpu(f"gates of {repository(one)}", seconds) for one in ids)
    return Stage("gates", jobs, len(ids), cpu_hours=cpu / HOUR, inodes=INODES_PER_JOB * jobs)


def _models(config: Config) -> Stage:
    named = [policy.start for policy in config.policies.values()]
    named += [made.policy for made in config.rollouts.values()]
    named += [chosen.model for chosen in config.training_sets.values()]
    named += [verifier.start for verifier in config.verifiers.values()]
    used = sorted(name for name in config.models.keys() & set(named) if config.endpoint_of(name) is None)
    gigabytes = sum(2 * size_of(config, name) for name in used)
    return Stage("base models", len(used), len(used), gigabytes=gigabytes, inodes=INODES_PER_MODEL * len(used))


def size_of(config: Config, name: str) -> float:
    """Parameters of a model or policy in 10⁹, as its repository's name tells; 0 where it does not, or it is tiny."""
    while name in config.policies:
        name = config.policies[name].start
    repo = getattr(config.models[name], "repo", "")
    found = re.search(r"(\d+(?:\.\d+)?)B(?![A-Za-z])", repo)
    return float(found[1]) if found else 0.0


def gpus(config: Config, policy: str, serving: Any) -> int:
    """GPUs of a server; none for a model so small that it has no size in its name."""
    return serving.gpus() if size_of(config, policy) else 0


def _blocks(config: Config, made: RolloutSet) -> int:
    """Jobs of a rollout set: blocks of runs times shards of instances."""
    return len(made.blocks()) * config.shards(made.dataset)


def _attempted(config: Config, made: RolloutSet) -> int:
    return made.runs * len(config.instance_ids(made.dataset))


def _resolved(config: Config, used: str, known: Assumptions) -> float:
    """Resolved rollouts that a set or an import is expected to have."""
    if used in config.imports:
        return known.imported_resolved
    return _attempted(config, config.rollouts[used]) * known.resolved_share


def _rollouts(config: Config, known: Assumptions, past: Past) -> Stage:
    jobs = units = 0
    gpu = cpu = gigabytes = dollars = 0.0
    for made in config.rollouts.values():
        endpoint = config.endpoint_of(made.policy)
        blocks, rollouts = _blocks(config, made), _attempted(config, made)
        servers = gpus(config, made.policy, made.settings.serving)
        seconds = _gpu_seconds(known, made.settings) * size_of(config, made.policy)
        start = known.server_start_seconds * servers * blocks
        key = f"rollouts of {made.policy} by {made.settings.scaffold.kind}"
        gpu += rollouts * past.wall(key) * servers if past.knows(key) else rollouts * seconds + start
        cpu += rollouts * past.cpu(key, known.rollout_cpu_seconds)
        gigabytes += rollouts * past.gigabytes(key, known.rollout_gb)
        dollars += rollouts * known.endpoint_dollars if endpoint and endpoint.dollars_per_million else 0
        jobs, units = jobs + blocks, units + rollouts
    return Stage("rollouts", jobs, units, gpu / HOUR, cpu / HOUR, gigabytes, INODES_PER_JOB * jobs, dollars=dollars)


def _gpu_seconds(known: Assumptions, settings: RolloutSettings) -> float:
    kind = settings.scaffold.kind
    return known.moatless_gpu_seconds if kind == "moatless" else known.codeact_gpu_seconds


def _grades(config: Config, known: Assumptions, past: Past) -> Stage:
    sets = config.rollouts.values()
    shards = sum(_blocks(config, made) for made in sets)
    patches = sum(_attempted(config, made) for made in sets)
    jobs = shards + len({*config.attempts_tables(), *_shown_attempts(config)})
    cpu = sum(
        made.runs * past.cpu(f"grades of {repository(one)}", known.test_cpu_seconds)
        for made in sets
        for one in config.instance_ids(made.dataset)
    )
    return Stage("grades", jobs, patches, cpu_hours=cpu / HOUR, inodes=INODES_PER_JOB * jobs)


def _shown_attempts(config: Config) -> set[str]:
    imported = config.imports.keys()
    shown = [*config.tables.values(), *config.figures.values()]
    return {name for one in shown for name in getattr(one, "sets", [])} - imported


def _training_sets(config: Config) -> Stage:
    jobs = len(config.training_sets)
    return Stage("training sets", jobs, jobs, inodes=INODES_PER_JOB * jobs)


def rows_of(config: Config, name: str, known: Assumptions) -> float:
    """Rollouts that a training set is expected to keep."""
    chosen = config.training_sets[name]
    filters = chosen.settings
    resolved = instances = 0.0
    for used in chosen.sets:
        dataset = (config.imports.get(used) or config.rollouts[used]).dataset
        instances += len(config.instance_ids(dataset)) or math.inf
        resolved += _resolved(config, used, known)
    solved = min(instances, resolved * known.solved_share)
    if filters.one_per_instance:
        resolved = solved
    if filters.cap is not None:
        resolved = min(resolved, filters.cap * solved)
    return resolved * filters.fraction


def training_seconds(size: float, tokens: float, epochs: float, known: Assumptions, *, lora: bool) -> float:
    """GPU seconds: 2 operations per parameter and token forward, 4 backward (2 for adapters), 2 to recompute."""
    return (6 if lora else 8) * size * BILLION * tokens * epochs / known.gpu_flops


def _training(config: Config, known: Assumptions, past: Past) -> Stage:
    gpu = gigabytes = rows = 0.0
    for name, policy in config.policies.items():
        recipe, size = config.training[policy.training], size_of(config, policy.start)
        kept = rows_of(config, policy.training_set, known)
        tokens = kept * min(known.trajectory_tokens, recipe.max_length)
        estimate = training_seconds(size, tokens, recipe.epochs, known, lora=bool(recipe.lora))
        gpu += past.wall(f"training of {name}", estimate) if size else 0
        rows, gigabytes = rows + kept, gigabytes + 2 * size
    jobs = len(config.policies)
    return Stage("training", jobs, round(rows), gpu / HOUR, 0.0, gigabytes, INODES_PER_MODEL * jobs)


def _verifiers(config: Config, known: Assumptions, past: Past) -> Stage:
    gpu = gigabytes = rows = 0.0
    for name, verifier in config.verifiers.items():
        recipe, size = config.training[verifier.training], size_of(config, verifier.start)
        resolved = sum(_resolved(config, used, known) for used in verifier.sets)
        kept = resolved * (1 + verifier.data.negatives_per_positive)
        tokens = kept * min(known.trajectory_tokens, recipe.max_length)
        estimate = training_seconds(size, tokens, recipe.epochs, known, lora=bool(recipe.lora))
        gpu += past.wall(f"training of {name}", estimate) if size else 0
        rows, gigabytes = rows + kept, gigabytes + 2 * size
    jobs = 2 * len(config.verifiers)
    return Stage("verifiers", jobs, round(rows), gpu / HOUR, 0.0, gigabytes, INODES_PER_MODEL * len(config.verifiers))


def _scores(config: Config, known: Assumptions, past: Past) -> Stage:
    jobs = units = 0
    gpu = 0.0
    for name, verifier in config.verifiers.items():
        size, servers = size_of(config, verifier.start), gpus(config, verifier.start, verifier.scoring.serving)
        for used in verifier.scores:
            made = config.rollouts[used]
            blocks, rollouts = _blocks(config, made), _attempted(config, made)
            read = 2 * size * BILLION * known.trajectory_tokens / known.gpu_flops
            start = known.server_start_seconds * servers * blocks
            key = f"scores by {name}"
            gpu += rollouts * past.wall(key) * servers if past.knows(key) else rollouts * read + start
            jobs, units = jobs + blocks, units + rollouts
    return Stage("scores", jobs, units, gpu / HOUR, inodes=INODES_PER_JOB * jobs)


def _shown(config: Config) -> Stage:
    shown = len(config.tables) + len(config.figures)
    return Stage("tables and report", shown + 2, shown, inodes=INODES_PER_JOB * (shown + 2))


def _table(stages: list[Stage]) -> Table:
    made = Table()
    priced = any(stage.dollars for stage in stages)
    for column in ("stage", "jobs", "units", "GPU-hours", "CPU-hours", "GB", "inodes", "pulls", *["$"] * priced):
        made.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    rows = [list(asdict(stage).values())[1 : None if priced else -1] for stage in stages]
    for stage, row in zip(stages, rows, strict=True):
        made.add_row(stage.stage, *map(_cell, row))
    made.add_section()
    jobs, _, *sums = (sum(column) for column in zip(*rows, strict=True))
    made.add_row("all", _cell(jobs), "", *map(_cell, sums))
    return made


def _cell(value: float) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
