# Images: operating system -> environment -> one thin layer per instance, and the gate that each instance must pass.
from pathlib import Path

from swedag.datasets.specs import spec_files
from swedag.images.pull import RegistrySettings
from swedag.images.spec import find, suite

SPEC_ENVIRONMENTS = CONFIG.spec_environments()
SLIM_ENVIRONMENTS = CONFIG.slim_environments()
PULLED = [
    name
    for name, dataset in CONFIG.datasets.items()
    if isinstance(getattr(dataset, "images", None), RegistrySettings)
]
BUILT = [name for name in CONFIG.runnable_datasets() if name not in PULLED]
TOOL_LOCKS = {
    "train-cpu": "train-cpu",
    "train-gpu": "train-gpu",
    "serve-cpu": "tools-cpu",
    "serve-gpu": "serve-gpu",
}


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


rule images:
    input:
        all_instances(),
        all_gates(),
    localrule: True


rule fetch_source:
    input:
        code=code("images.sources"),
    output:
        "results/images/sources/{package}-{version}.tar.gz",
    log:
        "logs/images/sources/{package}-{version}.log",
    conda:
        "../envs/driver.yaml"
    params:
        requirement="{package}=={version}",
    shell:
        "python -m swedag fetch-source --requirement {params.requirement} --output {output} &> {log}"


rule mirror:
    input:
        code=code("images.mirror"),
    output:
        directory("results/images/mirrors/{repository}.git"),
    log:
        "logs/images/mirrors/{repository}.log",
    conda:
        "../envs/driver.yaml"
    params:
        url=mirror_url,
    shell:
        "python -m swedag mirror --url {params.url:q} --output {output} &> {log}"


rule fetch_wheels:
    input:
        code=code("images.wheels"),
    output:
        "results/images/sources/{environment}.wheels.tar",
    log:
        "logs/images/sources/{environment}.wheels.log",
    conda:
        "../envs/driver.yaml"
    params:
        settings=environment_settings,
    shell:
        "python -m swedag fetch-wheels --settings {params.settings:q} --output {output} &> {log}"


rule os_image:
    input:
        code=code("images.system"),
    output:
        "results/images/os/{suite}.sif",
    log:
        "logs/images/os/{suite}.log",
    benchmark:
        "benchmarks/images/os/{suite}.jsonl"
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag os-image --suite {wildcards.suite} --output {output} &> {log}"


rule tool_wheels:
    input:
        code=code("images.tool_wheels"),
        requirements=tool_requirements,
        lock=tool_lock,
    output:
        temp("results/images/tools/{tool}.wheels.tar"),
    log:
        "logs/images/tools/{tool}.wheels.log",
    wildcard_constraints:
        tool=one_of(TOOL_LOCKS),
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag tool-wheels --requirements {input.requirements} --lock {input.lock} --output {output} &> {log}"


rule tool_image:
    input:
        code=code("images.tool_image"),
        definition=tool_definition,
        base=tool_base,
        wheels="results/images/tools/{tool}.wheels.tar",
    output:
        image="results/images/tools/{tool}.sif",
        digest="results/images/tools/{tool}.sha256",
    log:
        "logs/images/tools/{tool}.log",
    benchmark:
        "benchmarks/images/tools/{tool}.jsonl"
    wildcard_constraints:
        tool=one_of(TOOL_LOCKS),
    conda:
        "../envs/driver.yaml"
    params:
        base=option("base"),
    shell:
        "python -m swedag tool-image --definition {input.definition} {params.base} --wheels {input.wheels} "
        "--output {output.image} --digest {output.digest} &> {log}"


rule environment_image:
    input:
        code=code("images.environment"),
        definition="envs/environment.def",
        os=environment_os,
        wheels="results/images/sources/{environment}.wheels.tar",
    output:
        "results/images/envs/{environment}.sif",
    log:
        "logs/images/envs/{environment}.log",
    benchmark:
        "benchmarks/images/envs/{environment}.jsonl"
    wildcard_constraints:
        environment=one_of(CONFIG.environments),
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag environment-image --os {input.os} --wheels {input.wheels} "
        "--definition {input.definition} --output {output} &> {log}"


rule spec_environment:
    input:
        code=code("images.spec"),
        spec=spec_source,
        instances=ancient(spec_instances),  # one commit is as good as another
        mirror=ancient(spec_mirror),
        os=spec_os,
    output:
        image="results/images/envs/{environment}.sif",
        written="results/images/envs/{environment}.testbed.tar",
    log:
        "logs/images/envs/{environment}.log",
    benchmark:
        "benchmarks/images/envs/{environment}.jsonl"
    wildcard_constraints:
        environment=one_of(SPEC_ENVIRONMENTS),
    conda:
        "../envs/driver.yaml"
    params:
        settings=spec_settings,
    shell:
        "python -m swedag spec-environment --environment {wildcards.environment} --spec {input.spec} "
        "--settings {params.settings:q} --instances {input.instances} --mirror {input.mirror} --os {input.os} "
        "--output {output.image} --written {output.written} &> {log}"


rule layers:
    input:
        code=code("images.layers"),
        instances="results/{run}/instances/{dataset}.jsonl",
        sources=layer_sources,
        written=layer_additions,
    output:
        "results/{run}/images/{dataset}/shard-{shard}.images.jsonl",
    log:
        "logs/{run}/images/{dataset}/shard-{shard}.images.log",
    benchmark:
        "benchmarks/{run}/images/{dataset}/shard-{shard}.images.jsonl"
    wildcard_constraints:
        dataset=one_of(BUILT),
    conda:
        "../envs/driver.yaml"
    threads: 1
    params:
        members=image_members,
        work="results/work/layers/{run}/{dataset}/shard-{shard}",
    shell:
        "python -m swedag layers --instance {params.members} --instances {input.instances} --images results/images "
        "--work {params.work} --known results/work/layers --workers {threads} --output {output} &> {log}"


rule registry_images:
    input:
        code=code("images.pull"),
    output:
        "results/{run}/images/{dataset}/shard-{shard}.images.jsonl",
    log:
        "logs/{run}/images/{dataset}/shard-{shard}.images.log",
    benchmark:
        "benchmarks/{run}/images/{dataset}/shard-{shard}.images.jsonl"
    wildcard_constraints:
        dataset=one_of(PULLED),
    conda:
        "../envs/driver.yaml"
    params:
        settings=pull_settings,
        members=image_members,
    shell:
        "python -m swedag registry-image --instance {params.members} --settings {params.settings:q} "
        "--images results/images --output {output} &> {log}"


rule slim_images:
    input:
        code=code("images.slim"),
        records=slim_records,
    output:
        "results/images/envs/{environment}.sif",
    log:
        "logs/images/envs/{environment}.log",
    benchmark:
        "benchmarks/images/envs/{environment}.jsonl"
    wildcard_constraints:
        environment=one_of(SLIM_ENVIRONMENTS),
    conda:
        "../envs/driver.yaml"
    params:
        images=slim_images,
    shell:
        "python -m swedag slim-images --images {params.images} --records {input.records} --environment {output} "
        "--layers results/images/instances &> {log}"


rule gates:
    input:
        code=code("grading.gates"),
        instances="results/{run}/instances/{dataset}.jsonl",
        environment=dataset_environment,
        records="results/{run}/images/{dataset}/shard-{shard}.images.jsonl",
    output:
        "results/{run}/images/{dataset}/shard-{shard}.gates.jsonl",
    log:
        "logs/{run}/images/{dataset}/shard-{shard}.gates.log",
    benchmark:
        "benchmarks/{run}/images/{dataset}/shard-{shard}.gates.jsonl"
    priority: -1  # nothing but the attempts tables waits for it
    conda:
        "../envs/driver.yaml"
    threads: 1
    params:
        settings=settings(CONFIG.grading),
        work="results/work/gates/{run}/{dataset}/shard-{shard}",
    shell:
        "python -m swedag gates --instances {input.instances} --records {input.records} --images results/images "
        "--settings {params.settings:q} --work {params.work} --known results/work/gates --workers {threads} "
        "--output {output} &> {log}"
