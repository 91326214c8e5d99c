# Rollouts: a block of runs of a rollout set on a shard of instances, sampled from one vLLM server; or published ones.
include: "common/rollouts.smk"


rule rollouts:
    input:
        code=set_code,
        instances=set_instances,
        environment=set_environment,
        records=shard_records,
        model=set_model,
        base=set_base,
        image=ancient(set_image),
        digest=set_digest,
    output:
        "results/{run}/rollouts/{set}/runs-{first}-{last}/shard-{shard}.jsonl",
    log:
        "logs/{run}/rollouts/{set}/runs-{first}-{last}/shard-{shard}.log",
    benchmark:
        "benchmarks/{run}/rollouts/{set}/runs-{first}-{last}/shard-{shard}.jsonl"
    conda:
        "../envs/driver.yaml"
    resources:
        gpu=set_gpus,
    params:
        settings=set_settings,
        decisive=set_decisive,
        policy=set_policy,
        source=set_source,
        members=shard_members,
        work="results/{run}/work/rollouts/{set}/runs-{first}-{last}/shard-{shard}",
    shell:
        "python -m swedag rollouts --settings {params.settings:q} --policy {params.policy} {params.source} "
        "--instances {input.instances} --only {params.members} --images results/images --records {input.records} "
        "--first-run {wildcards.first} --last-run {wildcards.last} "
        "--work {params.work} --output {output} &> {log}"


rule import_rollouts:
    input:
        code=code("imports", without=others("codeact")),
        rows=import_rows,
        instances=import_instances,
    output:
        rollouts="results/{run}/imports/{imported}/rollouts.jsonl",
        grades="results/{run}/imports/{imported}/grades.jsonl",
    log:
        "logs/{run}/imports/{imported}.log",
    conda:
        "../envs/driver.yaml"
    params:
        policy=import_policy,
        on_unknown=import_on_unknown,
        words=import_words,
    shell:
        "python -m swedag import-rollouts {input.rows} --policy {params.policy} --instances {input.instances} "
        "--on-unknown {params.on_unknown} --words {params.words} --output {output.rollouts} --grades {output.grades} &> {log}"
