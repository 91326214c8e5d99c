# Images: operating system -> environment -> one thin layer per instance, and the gate that each instance must pass.


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
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag environment-image --os {input.os} --wheels {input.wheels} "
        "--definition {input.definition} --output {output} &> {log}"


rule instance_image:
    input:
        code=code("images.instance"),
        instances=instance_dataset,
        source=instance_source,
    output:
        "results/images/instances/{instance}.sqsh",
    log:
        "logs/images/instances/{instance}.log",
    benchmark:
        "benchmarks/images/instances/{instance}.jsonl"
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag instance-image --instance {wildcards.instance} --instances {input.instances} "
        "--source {input.source} --output {output} &> {log}"


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


rule registry_gates:
    input:
        code=code("grading.gates"),
        instances="results/{run}/instances/{dataset}.jsonl",
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
