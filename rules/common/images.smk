# Look-ups of rules/images.smk.
from pathlib import Path

from swedag.datasets.specs import spec_files
from swedag.images.pull import RegistrySettings
from swedag.images.spec import find, suite
from swedag.images.tool_image import TOOL_LOCKS

SPEC_ENVIRONMENTS = CONFIG.spec_environments()
SLIM_ENVIRONMENTS = CONFIG.slim_environments()
PULLED = [
    name
    for name, dataset in CONFIG.datasets.items()
    if isinstance(getattr(dataset, "images", None), RegistrySettings)
]
BUILT = [name for name in CONFIG.runnable_datasets() if name not in PULLED]


def environment_settings(wildcards):
    return settings(CONFIG.environments[wildcards.environment])


def environment_os(wildcards):
    return f"results/images/os/{CONFIG.environments[wildcards.environment].suite}.sif"


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


def slim_records(wildcards):
    return CONFIG.image_shards(SLIM_ENVIRONMENTS[wildcards.environment], "images")


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


def image_members(wildcards):
    return CONFIG.shard(wildcards.dataset, int(wildcards.shard))


def layer_sources(wildcards):
    """The releases or mirrors that the layers of a shard are made of."""
    dataset, members = CONFIG.datasets[wildcards.dataset], image_members(wildcards)
    if dataset.kind == "published":
        return mirrors_of(sorted({name.rpartition("-")[0] for name in members}))
    releases = sorted({dataset.source_of(name) for name in members})
    return [f"results/images/sources/{release}.tar.gz" for release in releases]


def layer_additions(wildcards):
    """What installing the repositories wrote in /testbed, where their environments are those of specs."""
    environments = CONFIG.environments_of(wildcards.dataset)
    used = {environments[name] for name in image_members(wildcards)}
    return [
        f"results/images/envs/{name}.testbed.tar"
        for name in sorted(used & SPEC_ENVIRONMENTS.keys())
    ]


def tool_lock(wildcards):
    return f"envs/{TOOL_LOCKS[wildcards.tool]}.lock"


def tool_requirements(wildcards):
    return f"envs/{TOOL_LOCKS[wildcards.tool]}.in"


def tool_definition(wildcards):
    return f"envs/{wildcards.tool.partition('-')[0]}.def"


def tool_base(wildcards):
    """The system that a build for CPUs stands on; one for GPUs stands on the Docker image that its definition names."""
    return "results/images/os/bookworm.sif" if wildcards.tool.endswith("-cpu") else []
