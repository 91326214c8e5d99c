# Look-ups that the rules share: the validated config, the code behind a step, and the files that a name stands for.
import json
import re
from pathlib import Path

from swedag import figures, tables
from swedag.config import load
from swedag.datasets.specs import spec_files
from swedag.images.spec import find, suite
from swedag.report.page import style_files
from swedag.source import code

CONFIG = load(config, workflow.configfiles)
RESULTS = f"results/{CONFIG.run}"
SPEC_ENVIRONMENTS = CONFIG.spec_environments()
SLIM_ENVIRONMENTS = CONFIG.slim_environments()


def settings(block):
    """One block of the config as the JSON that a step takes; a param of a kind whose changes Snakemake sees."""
    return json.dumps(block.model_dump(mode="json"), sort_keys=True)


# Images and instances


def environment_image(name):
    return f"results/images/envs/{name}.sif"


def environment_settings(wildcards):
    return settings(CONFIG.environments[wildcards.environment])


def environment_os(wildcards):
    return f"results/images/os/{CONFIG.environments[wildcards.environment].suite}.sif"


def instances_file(dataset):
    return f"{RESULTS}/instances/{dataset}.jsonl"


def dataset_settings(wildcards):
    return settings(CONFIG.datasets[wildcards.dataset])


def environment_of(dataset):
    """The environments' images of a dataset; none where each instance has a published image of its own."""
    names = sorted(set(CONFIG.environments_of(dataset).values()))
    return [environment_image(name) for name in names]


def spec_file(environment):
    """The spec of config/specs that describes an environment."""
    return str(spec_files([spec_repository(environment)])[0])


def spec_repository(environment):
    """owner__name, as ids begin with it."""
    members = CONFIG.environments_of(SPEC_ENVIRONMENTS[environment])
    some = next(name for name, one in members.items() if one == environment)
    return some.rpartition("-")[0]


def slim_images(wildcards):
    """Whole images of an environment; those that are missing are known when they have been pulled."""
    members = CONFIG.environments_of(SLIM_ENVIRONMENTS[wildcards.environment])
    return [
        f"results/images/instances/{name}.sif"
        for name, environment in members.items()
        if environment == wildcards.environment
    ]


def slim_pulls(wildcards):
    return image_shards(SLIM_ENVIRONMENTS[wildcards.environment], "pulls")


def spec_images(environment):
    return CONFIG.datasets[SPEC_ENVIRONMENTS[environment]].images


def spec_settings(wildcards):
    images = spec_images(wildcards.environment)
    chosen = images.model_dump(mode="json", include={"source", "python", "constraints"})
    return json.dumps(chosen, sort_keys=True)


def spec_source(wildcards):
    return spec_file(wildcards.environment)


def spec_instances(wildcards):
    return instances_file(SPEC_ENVIRONMENTS[wildcards.environment])


def spec_mirror(wildcards):
    return mirrors_of([spec_repository(wildcards.environment)])


def spec_os(wildcards):
    images = spec_images(wildcards.environment)
    file = Path(spec_file(wildcards.environment))
    _, described = find(file, wildcards.environment, images)
    return f"results/images/os/{suite(described, images)}.sif"


def dataset_environment(wildcards):
    return environment_of(wildcards.dataset)


def dataset_sources(wildcards):
    releases = CONFIG.datasets[wildcards.dataset].sources()
    return [f"results/images/sources/{release}.tar.gz" for release in releases]


def datasets_of(kind):
    return [name for name, dataset in CONFIG.datasets.items() if dataset.kind == kind]


def dataset_rows(wildcards):
    return CONFIG.datasets[wildcards.dataset].source.rows_file()


def dataset_files(kind):
    """What a published dataset's config names beside its rows: ids, exclusion lists or specs."""

    def of_dataset(wildcards):
        return CONFIG.datasets[wildcards.dataset].input_files()[kind]

    return of_dataset


def instance_dataset(wildcards):
    return instances_file(CONFIG.dataset_of(wildcards.instance))


def registry_datasets():
    """Datasets whose instances have published images: a shard of them is one job, to be planned in seconds."""
    return [
        name
        for name, dataset in CONFIG.datasets.items()
        if getattr(getattr(dataset, "images", None), "source", "") == "registry"
    ]


def mirror_url(wildcards):
    """Where a repository is cloned from: as the first dataset says that builds layers from it, or from GitHub."""
    repo = wildcards.repository.replace("__", "/")
    named = [
        dataset.images.mirror.replace("{repo}", repo)
        for name, dataset in CONFIG.datasets.items()
        if dataset.kind == "published"
        and dataset.images
        and dataset.images.source == "build"
        and any(
            one.startswith(f"{wildcards.repository}-")
            for one in CONFIG.instance_ids(name)
        )
    ]
    return [*named, f"https://github.com/{repo}.git"][0]


def pull_settings(wildcards):
    return settings(CONFIG.datasets[wildcards.dataset].images)


def pull_members(wildcards):
    return CONFIG.shard(wildcards.dataset, int(wildcards.shard))


def instance_environment(wildcards):
    members = CONFIG.environments_of(CONFIG.dataset_of(wildcards.instance))
    return environment_image(members[wildcards.instance])


def instance_written(wildcards):
    """What installing the repository wrote in /testbed, where its environment is that of a spec."""
    members = CONFIG.environments_of(CONFIG.dataset_of(wildcards.instance))
    environment = members[wildcards.instance]
    if environment not in SPEC_ENVIRONMENTS:
        return []
    return f"results/images/envs/{environment}.testbed.tar"


def instance_source(wildcards):
    dataset = CONFIG.datasets[CONFIG.dataset_of(wildcards.instance)]
    if dataset.kind == "published":
        return f"results/images/mirrors/{wildcards.instance.rpartition('-')[0]}.git"
    return f"results/images/sources/{dataset.source_of(wildcards.instance)}.tar.gz"


def layers(instance_ids):
    return [f"results/images/instances/{name}.sqsh" for name in instance_ids]


def gate_files(dataset):
    """The ledger rows of a dataset's images for a command line, which may not hold a file for each instance."""
    if dataset in registry_datasets():
        return CONFIG.gates(dataset)
    return ["results/images/instances"]


def image_shards(dataset, kind):
    return [
        f"{RESULTS}/images/{dataset}/shard-{shard}.{kind}.jsonl"
        for shard in range(CONFIG.shards(dataset))
    ]


# Rollout sets: blocks of runs x shards of instances


def shards(kind, sets):
    """Every shard of some rollout sets below results/{run}/{kind}/, in the order of sets, runs, instances.

    An import has one file of each kind."""
    return [path for name in sets for path in shards_of(kind, name)]


def shards_of(kind, name):
    if name in CONFIG.imports:
        return [f"{RESULTS}/imports/{name}/{kind}.jsonl"]
    return [
        f"{RESULTS}/{kind}/{name}/runs-{first}-{last}/shard-{shard}.jsonl"
        for first, last in CONFIG.rollouts[name].blocks()
        for shard in range(CONFIG.shards(CONFIG.rollouts[name].dataset))
    ]


def imported(wildcards):
    return CONFIG.imports[wildcards.imported]


def import_rows(wildcards):
    return imported(wildcards).source.rows_file()


def import_instances(wildcards):
    return instances_file(imported(wildcards).dataset)


def import_policy(wildcards):
    return imported(wildcards).policy


def import_on_unknown(wildcards):
    return imported(wildcards).on_unknown


def import_words(wildcards):
    return imported(wildcards).words


def instances_files(sets):
    return [
        instances_file(dataset)
        for dataset in sorted(
            {
                (CONFIG.imports.get(name) or CONFIG.rollouts[name]).dataset
                for name in sets
            }
        )
    ]


def set_settings(wildcards):
    return settings(CONFIG.rollouts[wildcards.set].settings)


def set_policy(wildcards):
    return CONFIG.rollouts[wildcards.set].policy


def set_model(wildcards):
    return model_folder(CONFIG.rollouts[wildcards.set].policy)


def set_instances(wildcards):
    return instances_file(CONFIG.rollouts[wildcards.set].dataset)


def set_environment(wildcards):
    return environment_of(CONFIG.rollouts[wildcards.set].dataset)


def set_gates(wildcards):
    return CONFIG.gates(CONFIG.rollouts[wildcards.set].dataset)


def set_gate_files(wildcards):
    return gate_files(CONFIG.rollouts[wildcards.set].dataset)


def set_shards(kind):
    def of_set(wildcards):
        return shards(kind, [wildcards.set])

    return of_set


def set_scores(wildcards):
    """Scores of the verifier that the table is named after, else of the first that scores the set."""
    verifier = wildcards.judged.removeprefix("@") or CONFIG.verifier_of(wildcards.set)
    return shards(f"scores/{verifier}", [wildcards.set]) if verifier else []


def shard_members(wildcards):
    return CONFIG.shard(CONFIG.rollouts[wildcards.set].dataset, int(wildcards.shard))


def shard_layers(wildcards):
    if shard_pulls(wildcards):
        return []
    return layers(shard_members(wildcards))


def shard_pulls(wildcards):
    """What came of the published images of a shard's instances, some of which may be missing."""
    dataset = CONFIG.rollouts[wildcards.set].dataset
    if dataset not in registry_datasets():
        return []
    return image_shards(dataset, "pulls")[int(wildcards.shard)]


# Models, training sets, policies


def model_folder(name):
    """Folder of a base model or of a policy's checkpoint."""
    return (
        f"results/models/{name}"
        if name in CONFIG.models
        else f"{RESULTS}/checkpoints/{name}"
    )


def model_settings(wildcards):
    return settings(CONFIG.models[wildcards.model])


def training_set_settings(wildcards):
    return settings(CONFIG.training_sets[wildcards.training_set].settings)


def training_set_model(wildcards):
    return model_folder(CONFIG.training_sets[wildcards.training_set].model)


def training_set_instances(wildcards):
    return instances_files(CONFIG.training_sets[wildcards.training_set].sets)


def training_set_shards(kind):
    def of_training_set(wildcards):
        return shards(kind, CONFIG.training_sets[wildcards.training_set].sets)

    return of_training_set


def policy_start(wildcards):
    return model_folder(CONFIG.policies[wildcards.policy].start)


def policy_rows(wildcards):
    return f"{RESULTS}/sft/{CONFIG.policies[wildcards.policy].training_set}.jsonl"


def policy_settings(wildcards):
    return settings(CONFIG.training[CONFIG.policies[wildcards.policy].training])


# Verifiers


def verifier_data_settings(wildcards):
    return settings(CONFIG.verifiers[wildcards.verifier].data)


def verifier_data_model(wildcards):
    """The model whose tokenizer measures the judgements, where there is a limit to them."""
    limited = CONFIG.verifiers[wildcards.verifier].data.max_tokens is not None
    return verifier_start(wildcards) if limited else []


def verifier_data_tokenizer(wildcards, input):
    return (
        f"--tokenizer {input.tokenizer_of}/tokenizer.json" if input.tokenizer_of else ""
    )


def verifier_training_settings(wildcards):
    return settings(CONFIG.training[CONFIG.verifiers[wildcards.verifier].training])


def verifier_scoring_settings(wildcards):
    return settings(CONFIG.verifiers[wildcards.verifier].scoring)


def verifier_start(wildcards):
    return model_folder(CONFIG.verifiers[wildcards.verifier].start)


def verifier_shards(kind):
    def of_verifier(wildcards):
        return shards(kind, CONFIG.verifiers[wildcards.verifier].sets)

    return of_verifier


# Tables, figures, report


def attempts(sets):
    """Attempts tables of rollout sets; SET@VERIFIER has the scores of that verifier."""
    return [f"{RESULTS}/attempts/{name}.csv" for name in sets]


def table_settings(wildcards):
    return settings(CONFIG.tables[wildcards.table])


def table_attempts(wildcards):
    return attempts(tables.sets_of(CONFIG.tables[wildcards.table]))


def table_cards(wildcards):
    return [
        f"{RESULTS}/sft/{name}.card.json"
        for name in tables.cards_of(CONFIG.tables[wildcards.table])
    ]


def table_instances(wildcards):
    return [
        instances_file(name)
        for name in tables.datasets_of(CONFIG.tables[wildcards.table])
    ]


def table_code(wildcards):
    """Layers of a table's instances or mirrors of their repositories, if it looks at the code."""
    return [
        path
        for name in tables.code_of(CONFIG.tables[wildcards.table])
        for path in (
            mirrors(CONFIG.instance_ids(name))
            if name in datasets_of("published")
            else layers(CONFIG.instance_ids(name))
        )
    ]


def mirrors(instance_ids):
    return mirrors_of(sorted({name.rpartition("-")[0] for name in instance_ids}))


def mirrors_of(repositories):
    return [f"results/images/mirrors/{name}.git" for name in repositories]


def table_code_option(wildcards, input):
    """Their folders: there may be more layers than a command line holds."""
    folders = "--layers results/images/instances --mirrors results/images/mirrors"
    return folders if input.get("code_of") else ""


def table_references(wildcards):
    return [
        f"config/reference/{name}.csv"
        for name in tables.references_of(CONFIG.tables[wildcards.table])
    ]


def figure_settings(wildcards):
    return settings(CONFIG.figures[wildcards.figure])


def figure_attempts(wildcards):
    return attempts(figures.sets_of(CONFIG.figures[wildcards.figure]))


def figure_checkpoints(wildcards):
    return [
        model_folder(name)
        for name in figures.policies_of(CONFIG.figures[wildcards.figure])
    ]


def figure_references(wildcards):
    return [
        f"config/reference/{name}.csv"
        for name in figures.references_of(CONFIG.figures[wildcards.figure])
    ]


def figures_of(kind):
    return [name for name, figure in CONFIG.figures.items() if figure.kind == kind]


def figures_but(kind):
    return [name for name, figure in CONFIG.figures.items() if figure.kind != kind]


def restored(kind):
    return [path for path in CONFIG.restore if CONFIG.restorable()[path] == kind]


def restore_settings(wildcards):
    return settings(CONFIG.restore[wildcards.restored])


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
    """Once each: instances may belong to several datasets."""
    found = [gate for name in CONFIG.runnable_datasets() for gate in CONFIG.gates(name)]
    return list(dict.fromkeys(found))


def all_gate_files():
    found = [file for name in CONFIG.runnable_datasets() for file in gate_files(name)]
    return list(dict.fromkeys(found))


def all_images():
    built = [
        name for name in CONFIG.runnable_datasets() if name not in registry_datasets()
    ]
    return [
        *layers(
            dict.fromkeys(id for name in built for id in CONFIG.instance_ids(name))
        ),
        *[path for name in registry_datasets() for path in image_shards(name, "pulls")],
    ]


def all_instances():
    return [instances_file(name) for name in CONFIG.datasets]


def all_cards():
    return [f"{RESULTS}/sft/{name}.card.json" for name in CONFIG.training_sets]


def all_checkpoints():
    return [f"{RESULTS}/checkpoints/{name}" for name in CONFIG.policies]


def report_style(wildcards):
    return [str(path) for path in style_files()]


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
        *all_images(),
        *all_gates(),
        *all_instances(),
        *[model_folder(name) for name in sorted(used)],
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
