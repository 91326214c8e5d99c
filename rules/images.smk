# Images: operating system -> environment -> one thin layer per instance, and the gate that each instance must pass.
include: "common/images.smk"


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
