"""The config: it names things, and the DAG follows from the names. Read from YAML, checked, expanded; its schema, too.

Each step's settings are a model in the step's own module; this module only puts them under names, resolves the names,
and writes out what a `self_improvement` block stands for.
"""

import difflib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    model_validator,
)

from swedag.artifacts import write_json, write_text
from swedag.datasets.hub import HubSource
from swedag.datasets.step import FileSource, PublishedSettings
from swedag.errors import SwedagError
from swedag.figures import FigureSettings
from swedag.grading.run import GradingSettings
from swedag.images.mirror import BuildSettings
from swedag.images.pull import RegistrySettings
from swedag.images.tool_image import TOOL_IMAGES, TOOL_LOCKS
from swedag.images.wheels import EnvironmentSettings
from swedag.models.step import ModelSettings
from swedag.releases import ReleasesSettings
from swedag.report.page import ReportSettings
from swedag.restore import RestoreSettings
from swedag.rollouts import EndpointSettings, RolloutSettings
from swedag.synthesize.step import SynthesizeSettings
from swedag.tables import TableSettings, code_of
from swedag.training import TrainingSettings
from swedag.training_sets import TrainingSetSettings
from swedag.verifier import ScoreSettings
from swedag.verifier_data import VerifierDataSettings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


def _tool_image(path: str) -> str:
    path = os.path.normpath(path)
    known = [f"{TOOL_IMAGES}{tool}.sif" for tool in TOOL_LOCKS]
    if path.startswith(TOOL_IMAGES) and path not in known:
        raise ValueError(f"no such image is made here; known: {', '.join(known)}")
    return path


ToolImage = Annotated[str, Field(min_length=1), AfterValidator(_tool_image)]


def _dataset_kind(dataset: Any) -> str:
    found = dataset.get("kind") if isinstance(dataset, dict) else getattr(dataset, "kind", None)
    return str(found or "synthesized")


DatasetSettings = Annotated[
    Annotated[SynthesizeSettings, Tag("synthesized")]
    | Annotated[ReleasesSettings, Tag("releases")]
    | Annotated[PublishedSettings, Tag("published")],
    Discriminator(_dataset_kind),
]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RolloutSet(Block):
    """Some runs of one policy on one dataset."""

    policy: str = Field(description="A policy, or a model as it is")
    dataset: str = Field(description="The dataset whose instances are attempted")
    runs: int = Field(ge=1, description="Attempts per instance, numbered from 0")
    runs_per_job: int = Field(16, ge=1, description="Runs that one job samples from one server start")
    settings: RolloutSettings = Field(description="Scaffold, sampling and serving")

    def blocks(self) -> list[tuple[int, int]]:
        """First and last run of each job; more runs later add blocks and leave full ones as they are.

        Where run 0 has a temperature of its own, it has a job of its own: a table of SET.first needs no more than that.
        """
        alone = int(self.settings.first_temperature is not None)
        firsts = range(alone, self.runs, self.runs_per_job)
        return [(0, 0)] * alone + [(first, min(first + self.runs_per_job, self.runs) - 1) for first in firsts]


class Import(Block):
    """Rollouts as somebody published them, with their verdicts: to learn from, in place of sampling a teacher."""

    source: HubSource | FileSource = Field(discriminator="kind", description="Where the trajectories are")
    dataset: str = Field(description="The dataset of their instances")
    policy: Name = Field("published", description="Name of who sampled them, for the records")
    on_unknown: Literal["refuse", "skip"] = Field(
        "refuse", description="Whether a row of no instance of the dataset stops the run or is left out and counted"
    )
    words: Literal["published", "ours"] = Field(
        "published",
        description="Begin with the published system message and question, or with those of our codeact scaffold: so "
        "that a policy trained on them is later asked in the words it knows",
    )


class TrainingSet(Block):
    """Rollouts of some sets, filtered."""

    sets: list[str] = Field(min_length=1, description="The rollout sets and imports to draw from")
    model: str = Field(description="Model or policy whose tokenizer counts the tokens")
    settings: TrainingSetSettings = Field(default_factory=TrainingSetSettings, description="Filters, order and cut")


class Policy(Block):
    """A checkpoint: a model or policy trained further on a training set."""

    start: str = Field(description="Model or policy to start from")
    training_set: str = Field(description="The training set")
    training: str = Field(description="A recipe below `training`")


class Sampling(Block):
    """Rollouts inside a self-improvement block."""

    dataset: str = Field(description="The dataset whose instances are attempted")
    runs: int = Field(ge=1, description="Attempts per instance")
    runs_per_job: int = Field(16, ge=1, description="Runs that one job samples from one server start")
    settings: RolloutSettings = Field(description="Scaffold, sampling and serving")


class SelfImprovement(Block):
    """Rejection-sampling fine-tuning, repeated: sample, keep what is resolved, train, sample again.

    The block NAME with N iterations stands for rollout sets NAME-0-train … and NAME-0-eval … NAME-N-eval, training
    sets NAME-1 … NAME-N and policies NAME-1 … NAME-N; iteration 0 is the model as it is.
    """

    model: str = Field(description="The model to improve")
    iterations: int = Field(ge=1, description="How often to sample and train")
    sample: Sampling = Field(description="Rollouts to learn from, at every iteration")
    evaluate: Sampling = Field(description="Rollouts to measure by, of iteration 0 to the last")
    filter: TrainingSetSettings = Field(default_factory=TrainingSetSettings, description="What of the rollouts is kept")
    training: str = Field(description="A recipe below `training`")
    start_from: Literal["base", "previous"] = Field("base", description="What each iteration trains further")
    accumulate: bool = Field(True, description="Train on the rollouts of all iterations so far, not only the last")


class Verifier(Block):
    """An outcome reward model: a policy taught to say whether a rollout resolves its instance."""

    start: str = Field(description="Model or policy to start from")
    sets: list[str] = Field(min_length=1, description="Rollout sets and imports whose graded rollouts it learns from")
    data: VerifierDataSettings = Field(default_factory=VerifierDataSettings, description="How judgements are drawn")
    training: str = Field(description="A recipe below `training`")
    scores: list[str] = Field(description="Rollout sets to score")
    scoring: ScoreSettings = Field(default_factory=ScoreSettings, description="How scores are read off")


class Config(Block):
    """A run of swedag."""

    run: Name = Field(description="Name of the run: its artifacts lie below results/<run>/")
    shard_size: int = Field(50, ge=1, description="Instances per job of images, gates, rollouts and grading")
    environments: dict[Name, EnvironmentSettings] = Field({}, description="Software that instances are tested in")
    datasets: dict[Name, DatasetSettings] = Field({}, description="Sets of instances")
    models: dict[Name, Annotated[ModelSettings | EndpointSettings, Field(discriminator="kind")]] = Field(
        {}, description="Base models, and models behind endpoints"
    )
    grading: GradingSettings = Field(default_factory=GradingSettings, description="How patches are tested")
    training: dict[Name, TrainingSettings] = Field({}, description="Recipes of training")
    train_image: ToolImage = Field(
        "results/images/tools/train-cpu.sif",
        description="Apptainer image that training runs in with `--sdm apptainer`; train-gpu.sif on GPUs",
    )
    serve_image: ToolImage | None = Field(
        "results/images/tools/serve-cpu.sif",
        description="Apptainer image that vLLM runs in with `--sdm apptainer`, serve-gpu.sif on GPUs; null for "
        "the tool environment",
    )
    self_improvement: dict[Name, SelfImprovement] = Field({}, description="Iterated rejection-sampling fine-tuning")
    rollouts: dict[Name, RolloutSet] = Field({}, description="Further rollout sets")
    imports: dict[Name, Import] = Field({}, description="Published rollouts")
    training_sets: dict[Name, TrainingSet] = Field({}, description="Further training sets")
    policies: dict[Name, Policy] = Field({}, description="Further policies")
    verifiers: dict[Name, Verifier] = Field({}, description="Verifiers")
    tables: dict[Name, TableSettings] = Field({}, description="Tables to make")
    figures: dict[Name, FigureSettings] = Field({}, description="Figures to draw")
    restore: dict[str, RestoreSettings] = Field(
        {}, description="Artifact below results/ → the release that it is restored from, in place of being made"
    )
    report: ReportSettings = Field(default_factory=ReportSettings, description="The report")
    _ids: dict[str, list[str]] = PrivateAttr(default_factory=dict)
    _environments: dict[str, dict[str, str]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _expand_and_resolve(self) -> "Config":
        for name, block in self.self_improvement.items():
            self._expand(name, block)
        for name, rollouts in self.rollouts.items():
            if rollouts.dataset in self.datasets and rollouts.dataset not in self.runnable_datasets():
                raise ValueError(
                    f"rollouts.{name}.dataset: {rollouts.dataset!r} has no images to run in; set datasets."
                    f"{rollouts.dataset}.images"
                )
        for where, kind, name in self._references():
            what, known = self._known(kind)
            if kind == "weights" and self.endpoint_of(name):
                raise ValueError(f"{where}: {name!r} is an endpoint, which has no weights; name another {what}")
            if name not in known:
                raise ValueError(f"{where}: no {what} is called {name!r}{did_you_mean(name, known)}")
        for name, table in self.tables.items():
            for dataset in code_of(table):
                used = self.datasets[dataset]
                if isinstance(used, PublishedSettings) and not used.ids_are_known():
                    raise ValueError(f"tables.{name}.code: set datasets.{dataset}.ids: its repositories are not known")
        restorable = self.restorable() if self.restore else {}
        for path in self.restore:
            if path not in restorable:
                near = difflib.get_close_matches(path, restorable, n=1, cutoff=0.8)
                raise ValueError(
                    f"restore: {path!r} cannot be restored: it is no instances, shard, attempts, training set, "
                    "checkpoint or model of this config" + (f" (did you mean {near[0]!r}?)" if near else "")
                )
        for name, rollouts in self.rollouts.items():
            endpoint = self.endpoint_of(rollouts.policy)
            if rollouts.settings.max_dollars and not (endpoint and endpoint.dollars_per_million):
                raise ValueError(
                    f"rollouts.{name}.settings.max_dollars: calls of {rollouts.policy!r} have no price; set models."
                    f"{rollouts.policy}.dollars_per_million of an endpoint, or leave the limit out"
                )
        for name in self.training_sets:
            both = [f"results/{self.run}/sft/{name}{suffix}" for suffix in (".jsonl", ".card.json")]
            if len(self.restore.keys() & set(both)) == 1:
                raise ValueError(f"restore: {both[0]} and {both[1]} are made by one job; restore both or neither")
        for name in self.imports.keys() & self.rollouts.keys():
            raise ValueError(f"imports.{name}: a rollout set has that name, too")
        return self

    def _known(self, kind: str) -> tuple[str, dict[str, Any]]:
        """What a kind of names is called, and all of them."""
        if kind == "policies":
            return "model or policy", {**self.models, **self.policies}
        if kind == "weights":
            own = {name: one for name, one in self.models.items() if not isinstance(one, EndpointSettings)}
            return "model or policy", {**own, **self.policies}
        if kind == "attempts":
            scored = {f"{used}@{name}": one for name, one in self.verifiers.items() for used in one.scores}
            first = {
                f"{name}.first": one
                for name, one in self.rollouts.items()
                if one.settings.first_temperature is not None
            }
            return "rollout set, or SET@VERIFIER or SET.first,", {**self.rollouts, **scored, **first}
        if kind == "graded":
            return "rollout set or import", {**self.rollouts, **self.imports}
        return kind.removesuffix("s"), getattr(self, kind)

    def _expand(self, name: str, block: SelfImprovement) -> None:
        for iteration in range(block.iterations + 1):
            policy = f"{name}-{iteration}" if iteration else block.model
            wanted = {"eval": block.evaluate} | ({"train": block.sample} if iteration < block.iterations else {})
            for suffix, sampling in wanted.items():
                self.rollouts[f"{name}-{iteration}-{suffix}"] = RolloutSet(policy=policy, **dict(sampling))
            if iteration:
                first = 0 if block.accumulate else iteration - 1
                self.training_sets[f"{name}-{iteration}"] = TrainingSet(
                    sets=[f"{name}-{earlier}-train" for earlier in range(first, iteration)],
                    model=block.model,
                    settings=block.filter,
                )
                previous = f"{name}-{iteration - 1}" if iteration > 1 else block.model
                self.policies[f"{name}-{iteration}"] = Policy(
                    start=previous if block.start_from == "previous" else block.model,
                    training_set=f"{name}-{iteration}",
                    training=block.training,
                )

    def _references(self) -> Iterator[tuple[str, str, str]]:
        """Every name that the config uses: where it stands, the kind of thing it must name, and the name."""
        for name, dataset in self.datasets.items():
            if not isinstance(dataset, PublishedSettings):
                yield f"datasets.{name}.environment", "environments", dataset.environment
            elif isinstance(dataset.images, BuildSettings) and dataset.images.environment:
                yield f"datasets.{name}.images.environment", "environments", dataset.images.environment
        for name, rollouts in self.rollouts.items():
            yield f"rollouts.{name}.policy", "policies", rollouts.policy
            yield f"rollouts.{name}.dataset", "datasets", rollouts.dataset
        for name, chosen in self.training_sets.items():
            yield f"training_sets.{name}.model", "weights", chosen.model
            for used in chosen.sets:
                yield f"training_sets.{name}.sets", "graded", used
        for name, imported in self.imports.items():
            yield f"imports.{name}.dataset", "datasets", imported.dataset
        for name, policy in self.policies.items():
            yield f"policies.{name}.start", "weights", policy.start
            yield f"policies.{name}.training_set", "training_sets", policy.training_set
            yield f"policies.{name}.training", "training", policy.training
        for name, verifier in self.verifiers.items():
            yield f"verifiers.{name}.start", "weights", verifier.start
            yield f"verifiers.{name}.training", "training", verifier.training
            for used in verifier.sets:
                yield f"verifiers.{name}.sets", "graded", used
            for used in verifier.scores:
                yield f"verifiers.{name}.scores", "rollouts", used
        for block, shown in (("tables", self.tables), ("figures", self.figures)):
            for name, one in shown.items():
                for used in getattr(one, "sets", []):
                    yield f"{block}.{name}.sets", "attempts", used
                for used in getattr(one, "training_sets", []):
                    yield f"{block}.{name}.training_sets", "training_sets", used
                for used in getattr(one, "datasets", []):
                    yield f"{block}.{name}.datasets", "datasets", used
                for used in getattr(one, "policies", []):
                    yield f"{block}.{name}.policies", "weights", used

    def endpoint_of(self, policy: str) -> EndpointSettings | None:
        """The endpoint that a policy is, or none where it has weights of its own."""
        found = self.models.get(policy)
        return found if isinstance(found, EndpointSettings) else None

    def instance_ids(self, dataset: str) -> list[str]:
        """The frozen, sorted ids of a dataset, known before anything has run."""
        if dataset not in self._ids:
            self._ids[dataset] = sorted(self.datasets[dataset].instance_ids())
        return self._ids[dataset]

    def runnable_datasets(self) -> list[str]:
        """Datasets whose instances have images; rows alone can be counted, but not run."""
        return [name for name, dataset in self.datasets.items() if getattr(dataset, "images", True)]

    def environments_of(self, dataset: str) -> dict[str, str]:
        """By instance id: the environment image of a dataset's instances; none where their images are whole."""
        if dataset not in self._environments:
            chosen = self.datasets[dataset]
            self._environments[dataset] = (
                chosen.environments()
                if isinstance(chosen, PublishedSettings)
                else dict.fromkeys(self.instance_ids(dataset), chosen.environment)
            )
        return self._environments[dataset]

    def slim_environments(self) -> dict[str, str]:
        """By the name of each environment that published images are split into: the dataset that it is made for."""
        found: dict[str, str] = {}
        for name, dataset in self.datasets.items():
            if isinstance(getattr(dataset, "images", None), RegistrySettings):
                for environment in sorted(set(self.environments_of(name).values())):
                    if found.setdefault(environment, name) != name:
                        raise SwedagError(
                            f"datasets.{name}.images.slim: images of {environment} are split for datasets."
                            f"{found[environment]} already; put the rows of both into one dataset"
                        )
        return found

    def spec_environments(self) -> dict[str, str]:
        """By the name of each environment of config/specs that is built: the dataset whose settings it is built by."""
        found: dict[str, str] = {}
        chosen: dict[str, tuple[str | None, list[str]]] = {}
        for name, dataset in self.datasets.items():
            images = getattr(dataset, "images", None)
            if isinstance(images, BuildSettings) and not images.environment:
                wanted = (images.python, images.constraints)
                for environment in sorted(set(self.environments_of(name).values())):
                    first = found.setdefault(environment, name)
                    if chosen.setdefault(environment, wanted) != wanted:
                        raise SwedagError(
                            f"datasets.{name}.images: the environment {environment} has another `python` or other "
                            f"`constraints` in datasets.{first}.images; write the same in both"
                        )
        return found

    def shards(self, dataset: str) -> int:
        return math.ceil(len(self.instance_ids(dataset)) / self.shard_size)

    def shard(self, dataset: str, number: int) -> list[str]:
        return self.instance_ids(dataset)[number * self.shard_size : (number + 1) * self.shard_size]

    def verifier_of(self, rollout_set: str) -> str | None:
        """The verifier whose scores stand in the attempts table of a set: the first that names it."""
        return next((name for name, verifier in self.verifiers.items() if rollout_set in verifier.scores), None)

    def attempts_tables(self) -> list[str]:
        """Names of the attempts tables: one per rollout set, and SET@VERIFIER for each further verifier of a set."""
        scored = [(used, name) for name, verifier in self.verifiers.items() for used in verifier.scores]
        further = [f"{used}@{name}" for used, name in scored if name != self.verifier_of(used)]
        return [*self.rollouts, *further]

    def image_shards(self, dataset: str, kind: str) -> list[str]:
        """Shards of what came of a dataset's images (kind `images`), or of their ledger rows (`gates`)."""
        shards = range(self.shards(dataset))
        return [f"results/{self.run}/images/{dataset}/shard-{shard}.{kind}.jsonl" for shard in shards]

    def restorable(self) -> dict[str, Literal["file", "folder"]]:
        """Artifacts that a release may take the place of, and what each is. Tables and figures are always made."""
        results = f"results/{self.run}"
        scores = [(f"scores/{name}", used) for name, verifier in self.verifiers.items() for used in verifier.scores]
        files = [
            *(f"{results}/instances/{name}.jsonl" for name in self.datasets),
            *(path for name in self.runnable_datasets() for path in self.image_shards(name, "gates")),
            *(
                f"{results}/{kind}/{used}/runs-{first}-{last}/shard-{shard}.jsonl"
                for kind, used in [*((k, s) for s in self.rollouts for k in ("rollouts", "grades")), *scores]
                for first, last in self.rollouts[used].blocks()
                for shard in range(self.shards(self.rollouts[used].dataset))
            ),
            *(f"{results}/attempts/{name}.csv" for name in self._known("attempts")[1]),
            *(f"{results}/sft/{name}{suffix}" for name in self.training_sets for suffix in (".jsonl", ".card.json")),
            *(f"{results}/verifiers/{name}/data.jsonl" for name in self.verifiers),
        ]
        folders = [
            *(f"results/models/{name}" for name in self.models if not self.endpoint_of(name)),
            *(f"{results}/checkpoints/{name}" for name in self.policies),
            *(f"{results}/verifiers/{name}/checkpoint" for name in self.verifiers),
        ]
        return {**dict.fromkeys(files, "file"), **dict.fromkeys(folders, "folder")}


def did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(str(name), [str(key) for key in known], n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(map(str, known)) or 'none'})"


def load(values: dict[str, Any], files: list[str | Path]) -> Config:
    """The checked config; SwedagError names file, key and fault, and for a mistyped key the nearest one that exists."""
    where = ", ".join(map(str, files)) or "the config"
    if not values:
        raise SwedagError("no config was given: use --profile local, or --configfile config/demo.yaml")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
        raise SwedagError(f"{where}: " + "; ".join(problems)) from None


def _explain(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _keys_at(Config.model_json_schema(), location[:-1])
        return f"unknown key {key!r}{did_you_mean(location[-1], known)}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {problem['input']!r})" if key else message


def _keys_at(schema: dict[str, Any], location: list[str]) -> list[str]:
    """Keys that the schema allows at a location; parts that pydantic adds for a union's member choose that member."""
    candidates = [schema]
    for part in ["", *location]:
        reached = (
            [_resolve(schema, step) for node in candidates for step in _children(node, part)] if part else candidates
        )
        candidates = [member for node in reached or candidates for member in _members(schema, node)]
    return sorted({key for node in candidates for key in node.get("properties", {})})


def _children(node: dict[str, Any], part: str) -> list[dict[str, Any]]:
    below = [node["properties"][part]] if part in node.get("properties", {}) else []
    extra = node.get("additionalProperties")
    return below or ([extra] if isinstance(extra, dict) else list(node.get("patternProperties", {}).values()))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _members(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolve(schema, node)
    options = node.get("oneOf") or node.get("anyOf") or node.get("allOf")
    return [member for option in options for member in _members(schema, option)] if options else [node]


def json_schema() -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema()


def reference() -> str:
    """config/README.md: every key, its type, its default and what it means, by block."""
    schema = json_schema()
    blocks = {"Config": schema} | schema["$defs"]
    lines = ["# The config, key by key", "", "Written by `make config` from the typed config; do not edit.", ""]
    for title, block in blocks.items():
        if "properties" not in block:
            continue
        summary = block.get("description", "").split("\n\n")
        lines += [f"## {title}", "", *[part.replace("\n", " ") for part in summary], ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for key, value in block["properties"].items():
            default = (
                json.dumps(value["default"])
                if "default" in value
                else "**required**"
                if key in block.get("required", [])
                else ""
            )
            cells = [f"`{key}`", _type(value), default, value.get("description", "")]
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in value:
            return " or ".join(_type(option) for option in value[union])
    if "enum" in value or "const" in value:
        return " or ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties") or next(iter(value.get("patternProperties", {}).values()), None)
        return f"name → {_type(inner)}" if isinstance(inner, dict) else "mapping"
    return str(value.get("type", "any"))


def main(
    schema: Annotated[Path, typer.Option(help="Where the JSON schema goes")],
    reference_file: Annotated[Path, typer.Option("--reference", help="Where the key reference (Markdown) goes")],
) -> None:
    """Write the config's JSON schema and its reference, both generated from the typed config."""
    write_json(schema, json_schema())
    write_text(reference_file, reference())
