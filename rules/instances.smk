# Instances: bugs injected into released packages, kept where the package's own tests notice them; or published rows.
include: "common/instances.smk"


rule synthesize:
    input:
        code=code("synthesize.step"),
        environment=dataset_environment,
        sources=dataset_sources,
    output:
        "results/{run}/instances/{dataset}.jsonl",
    log:
        "logs/{run}/instances/{dataset}.log",
    benchmark:
        "benchmarks/{run}/instances/{dataset}.jsonl"
    wildcard_constraints:
        dataset=one_of(datasets_of("synthesized")),
    conda:
        "../envs/driver.yaml"
    threads: 1
    params:
        settings=dataset_settings,
        work="results/{run}/work/instances/{dataset}",
    shell:
        "python -m swedag synthesize --settings {params.settings:q} "
        "--sources results/images/sources --images results/images "
        "--work {params.work} --workers {threads} --output {output} &> {log}"


rule releases:
    input:
        code=code("releases"),
        environment=dataset_environment,
        sources=dataset_sources,
    output:
        "results/{run}/instances/{dataset}.jsonl",
    log:
        "logs/{run}/instances/{dataset}.log",
    benchmark:
        "benchmarks/{run}/instances/{dataset}.jsonl"
    wildcard_constraints:
        dataset=one_of(datasets_of("releases")),
    conda:
        "../envs/driver.yaml"
    threads: 1
    params:
        settings=dataset_settings,
        work="results/{run}/work/instances/{dataset}",
    shell:
        "python -m swedag releases --settings {params.settings:q} "
        "--sources results/images/sources --images results/images "
        "--work {params.work} --workers {threads} --output {output} &> {log}"


rule fetch_dataset:
    input:
        code=code("datasets.hub"),
    output:
        "results/datasets/{owner}/{name}/{revision}/{split}.parquet",
    log:
        "logs/datasets/{owner}/{name}/{revision}/{split}.log",
    wildcard_constraints:
        owner=r"[\w.-]+",
        name=r"[\w.-]+",
        revision=r"[0-9a-f]{40}",
        split=r"[\w.]+",
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag fetch-dataset --repo {wildcards.owner}/{wildcards.name} --revision {wildcards.revision} "
        "--split {wildcards.split} --output {output} &> {log}"


rule instances:
    input:
        code=code("datasets.step"),
        rows=dataset_rows,
        ids=dataset_files("ids"),
        exclusions=dataset_files("exclusions"),
        specs=dataset_files("specs"),
    output:
        instances="results/{run}/instances/{dataset}.jsonl",
        report="results/{run}/instances/{dataset}.rows.csv",
    log:
        "logs/{run}/instances/{dataset}.log",
    benchmark:
        "benchmarks/{run}/instances/{dataset}.jsonl"
    wildcard_constraints:
        dataset=one_of(datasets_of("published")),
    conda:
        "../envs/driver.yaml"
    params:
        settings=dataset_settings,
        specs=option("specs"),
    shell:
        "python -m swedag instances --settings {params.settings:q} --rows {input.rows} {params.specs} "
        "--output {output.instances} --report {output.report} &> {log}"
