# Look-ups that the rules share: the validated config, the code behind a step, and the files that a name stands for.
import json
import os
import re
import shlex

from snakemake.settings.types import DeploymentMethod

from swedag.config import load
from swedag.images.tool_image import TOOL_IMAGES
from swedag.source import code

CONFIG = load(config, workflow.configfiles)
CONFIG_FILES = [os.path.relpath(file) for file in workflow.configfiles]
RESULTS = f"results/{CONFIG.run}"


def settings(block):
    """One block of the config as the JSON that a step takes; a param of a kind whose changes Snakemake sees."""
    return json.dumps(block.model_dump(mode="json"), sort_keys=True)


# Images and instances


def environment_image(name):
    return f"results/images/envs/{name}.sif"


def instances_file(dataset):
    return f"{RESULTS}/instances/{dataset}.jsonl"


def environment_of(dataset):
    """The environments' images of a dataset; none where each instance has a published image of its own."""
    names = sorted(set(CONFIG.environments_of(dataset).values()))
    return [environment_image(name) for name in names]


def dataset_environment(wildcards):
    return environment_of(wildcards.dataset)


def datasets_of(kind):
    return [name for name, dataset in CONFIG.datasets.items() if dataset.kind == kind]


def image_shards(kind, datasets):
    """Records of images (kind `images`) or their gates, a file for each shard of some datasets."""
    return [path for name in datasets for path in CONFIG.image_shards(name, kind)]


# Tool images


def tool_image(path):
    """An image that jobs run in, which must be there; its digest tells whether they are stale, not its time."""
    return [path] if path and path.startswith(TOOL_IMAGES) else []


def tool_digest(path):
    """The digest of an image that is made here; of somebody's own, the file itself."""
    if not path:
        return []
    return path.removesuffix(".sif") + ".sha256" if tool_image(path) else path


def contained(image):
    """An image that the config names, or none where jobs run in no containers."""
    methods = workflow.deployment_settings.deployment_method
    return image if DeploymentMethod.APPTAINER in methods else None


def train_image():
    return contained(CONFIG.train_image)


def serve_image():
    return contained(CONFIG.serve_image)


def server_option():
    """For the steps that start vLLM, which stay outside of its image: they start sandboxes, too."""
    return f"--server-image {shlex.quote(serve_image())}" if serve_image() else ""


# Rollout sets: blocks of runs x shards of instances


def shards(kind, sets):
    """Every shard of some rollout sets below results/{run}/{kind}/, in the order of sets, runs, instances.

    An import has one file of each kind."""
    return [path for name in sets for path in shards_of(kind, name)]


def shards_of(kind, name):
    if name in CONFIG.imports:
        return [f"{RESULTS}/imports/{name}/{kind}.jsonl"]
    blocks, numbers = blocks_and_shards(name)
    return [shard(kind, name, block, number) for block in blocks for number in numbers]


def shard(kind, name, block, number):
    return f"{RESULTS}/{kind}/{name.removesuffix('.first')}/runs-{block}/shard-{number}.jsonl"


def blocks_and_shards(name):
    """SET.first has the first block alone."""
    made = CONFIG.rollouts[name.removesuffix(".first")]
    blocks = [f"{first}-{last}" for first, last in made.blocks()]
    return blocks[:1] if name.endswith(".first") else blocks, range(
        CONFIG.shards(made.dataset)
    )


def shard_words(kind, sets):
    """The same files for a command line, in the same order: patterns that bash expands, as thousands of paths are more
    than one argument may hold."""
    words = []
    for name in sets:
        if name in CONFIG.imports:
            words += shards_of(kind, name)
        else:
            blocks, numbers = map(alternatives, blocks_and_shards(name))
            words.append(shard(kind, name, blocks, numbers))
    return " ".join(words)


def alternatives(parts):
    """What bash expands to each of `parts`; a brace around a single one would stand for itself."""
    if isinstance(parts, range) and len(parts) > 1:
        return f"{{{parts[0]}..{parts[-1]}}}"
    return f"{{{','.join(parts)}}}" if len(parts) > 1 else str(parts[0])


def set_instances(wildcards):
    return instances_file(CONFIG.rollouts[wildcards.set].dataset)


def set_environment(wildcards):
    return environment_of(CONFIG.rollouts[wildcards.set].dataset)


def shard_members(wildcards):
    return CONFIG.shard(CONFIG.rollouts[wildcards.set].dataset, int(wildcards.shard))


def shard_records(wildcards):
    """What came of the images of a shard's instances."""
    dataset = CONFIG.rollouts[wildcards.set].dataset
    return CONFIG.image_shards(dataset, "images")[int(wildcards.shard)]


# Models, training sets, policies


def model_folder(name):
    """Folder of a base model or of a policy's checkpoint."""
    return (
        f"results/models/{name}"
        if name in CONFIG.models
        else f"{RESULTS}/checkpoints/{name}"
    )


def adapted(start, training):
    """The model below a checkpoint that is an adapter: whoever loads the one needs the other."""
    lora = CONFIG.training[training].lora
    return model_folder(start) if lora and not lora.merge else []


# Verifiers


# Tables, figures, report


def attempts(sets):
    """Attempts tables of rollout sets; SET@VERIFIER has the scores of that verifier."""
    return [f"{RESULTS}/attempts/{name}.csv" for name in sets]


def mirrors_of(repositories):
    return [f"results/images/mirrors/{name}.git" for name in repositories]


def one_of(names):
    """A wildcard constraint; it matches nothing where there are no names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def all_tables():
    return [f"{RESULTS}/tables/{name}.csv" for name in CONFIG.tables]


def all_figures():
    return [f"{RESULTS}/figures/{name}.svg" for name in CONFIG.figures]


def named_targets():
    """Target → files: each table and figure by its name, and by the part before `_`, so that `figure1` has all of it."""
    shown = [*zip(CONFIG.tables, all_tables()), *zip(CONFIG.figures, all_figures())]
    found = {}
    for name, path in shown:
        for target in {name, name.partition("_")[0] or name}:
            found.setdefault(target, []).append(path)
    return found


def all_gates():
    return image_shards("gates", CONFIG.runnable_datasets())


def all_instances():
    return [instances_file(name) for name in CONFIG.datasets]


def all_cards():
    return [f"{RESULTS}/sft/{name}.card.json" for name in CONFIG.training_sets]


def all_checkpoints():
    return [f"{RESULTS}/checkpoints/{name}" for name in CONFIG.policies]


def all_scores():
    return [
        path
        for name, verifier in CONFIG.verifiers.items()
        for path in shards(f"scores/{name}", verifier.scores)
    ]


def all_artifacts():
    """What `all` keeps: every artifact, since Snakemake makes a deleted one again only if a target asks for it."""
    used = {policy.start for policy in CONFIG.policies.values()} | {
        made.policy for made in CONFIG.rollouts.values()
    }
    return [
        *image_shards("images", CONFIG.runnable_datasets()),
        *all_gates(),
        *all_instances(),
        *[model_folder(name) for name in sorted(used) if not CONFIG.endpoint_of(name)],
        *shards("rollouts", CONFIG.rollouts),
        *shards("grades", CONFIG.rollouts),
        *attempts(CONFIG.attempts_tables()),
        *[f"{RESULTS}/sft/{name}.jsonl" for name in CONFIG.training_sets],
        *all_cards(),
        *all_checkpoints(),
        *[
            f"{RESULTS}/verifiers/{name}/{part}"
            for name in CONFIG.verifiers
            for part in ("data.jsonl", "checkpoint")
        ],
        *all_scores(),
        *all_tables(),
        *all_figures(),
        f"{RESULTS}/report",
        f"{RESULTS}/ro-crate-metadata.json",
    ]


def option(name):
    """`--name file file …` for a rule's input of that name, or nothing where it has no files."""

    def of_input(wildcards, input):
        files = input.get(name, [])
        files = [files] if isinstance(files, str) else files
        return f"--{name} {' '.join(files)}" if files else ""

    return of_input
