# Images: operating system -> environment -> one thin layer per instance, and the gate that each instance must pass.
from pathlib import Path

from swedag.datasets.specs import spec_files
from swedag.images.spec import find, suite

SPEC_ENVIRONMENTS = CONFIG.spec_environments()
SLIM_ENVIRONMENTS = CONFIG.slim_environments()


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


def instance_dataset(wildcards):
    return instances_file(CONFIG.dataset_of(wildcards.instance))


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


rule instance_image:
    input:
        code=code("images.instance"),
        instances=instance_dataset,
        source=instance_source,
        written=instance_written,
    output:
        "results/images/instances/{instance}.sqsh",
    log:
        "logs/images/instances/{instance}.log",
    benchmark:
        "benchmarks/images/instances/{instance}.jsonl"
    conda:
        "../envs/driver.yaml"
    params:
        written=option("written"),
    shell:
        "python -m swedag instance-image --instance {wildcards.instance} --instances {input.instances} "
        "--source {input.source} {params.written} --output {output} &> {log}"


rule registry_images:
    input:
        code=code("images.pull"),
    output:
        "results/{run}/images/{dataset}/shard-{shard}.pulls.jsonl",
    log:
        "logs/{run}/images/{dataset}/shard-{shard}.pulls.log",
    benchmark:
        "benchmarks/{run}/images/{dataset}/shard-{shard}.pulls.jsonl"
    wildcard_constraints:
        dataset=one_of(registry_datasets()),
    conda:
        "../envs/driver.yaml"
    params:
        settings=pull_settings,
        members=pull_members,
    shell:
        "python -m swedag registry-image --instance {params.members} --settings {params.settings:q} "
        "--images results/images --output {output} &> {log}"


rule slim_images:
    input:
        code=code("images.slim"),
        pulls=slim_pulls,
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
        "python -m swedag slim-images --images {params.images} --pulls {input.pulls} --environment {output} "
        "--layers results/images/instances &> {log}"


rule registry_gates:
    input:
        code=code("grading.gates"),
        instances="results/{run}/instances/{dataset}.jsonl",
        environment=dataset_environment,
        pulls="results/{run}/images/{dataset}/shard-{shard}.pulls.jsonl",
    output:
        "results/{run}/images/{dataset}/shard-{shard}.gates.jsonl",
    log:
        "logs/{run}/images/{dataset}/shard-{shard}.gates.log",
    benchmark:
        "benchmarks/{run}/images/{dataset}/shard-{shard}.gates.jsonl"
    wildcard_constraints:
        dataset=one_of(registry_datasets()),
    priority: -1  # nothing but the attempts tables waits for it
    conda:
        "../envs/driver.yaml"
    threads: 2
    params:
        settings=settings(CONFIG.grading),
        work="results/work/gates/{run}/{dataset}/shard-{shard}",
    shell:
        "python -m swedag gates --instances {input.instances} --pulls {input.pulls} --images results/images "
        "--settings {params.settings:q} --work {params.work} --known results/work/gates --output {output} &> {log}"


rule gate:
    input:
        code=code("grading.gate"),
        instances=instance_dataset,
        environment=instance_environment,
        layer="results/images/instances/{instance}.sqsh",
    output:
        "results/images/instances/{instance}.json",
    log:
        "logs/images/instances/{instance}.gate.log",
    benchmark:
        "benchmarks/images/gates/{instance}.jsonl"
    priority: -1  # nothing but the attempts tables waits for it
    conda:
        "../envs/driver.yaml"
    params:
        settings=settings(CONFIG.grading),
    shell:
        "python -m swedag gate --instance {wildcards.instance} --instances {input.instances} "
        "--images results/images --settings {params.settings:q} --output {output} &> {log}"
