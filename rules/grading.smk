# Grades: every patch of a rollout shard, applied and tested in a fresh sandbox; then one table of attempts per set.
include: "common/grading.smk"


rule grade:
    input:
        code=code("grading.step"),
        instances=set_instances,
        environment=set_environment,
        records=shard_records,
        rollouts="results/{run}/rollouts/{set}/runs-{first}-{last}/shard-{shard}.jsonl",
    output:
        "results/{run}/grades/{set}/runs-{first}-{last}/shard-{shard}.jsonl",
    log:
        "logs/{run}/grades/{set}/runs-{first}-{last}/shard-{shard}.log",
    benchmark:
        "benchmarks/{run}/grades/{set}/runs-{first}-{last}/shard-{shard}.jsonl"
    conda:
        "../envs/driver.yaml"
    threads: 2
    params:
        settings=settings(CONFIG.grading),
        work="results/{run}/work/grades/{set}/runs-{first}-{last}/shard-{shard}",
    shell:
        "python -m swedag grade --settings {params.settings:q} --instances {input.instances} "
        "--rollouts {input.rollouts} --images results/images "
        "--work {params.work} --known results/{wildcards.run}/work/grades --workers {threads} --output {output} &> {log}"


rule attempts:
    input:
        code=code("attempts"),
        instances=set_instances,
        gates=set_gates,
        rollouts=set_shards(shards, "rollouts"),
        grades=set_shards(shards, "grades"),
        scores=set_scores,
    output:
        "results/{run}/attempts/{set}{first_run}{judged}.csv",
    log:
        "logs/{run}/attempts/{set}{first_run}{judged}.log",
    wildcard_constraints:
        first_run=r"|\.first",
        judged=r"|@[A-Za-z0-9_-]+",
    conda:
        "../envs/driver.yaml"
    params:
        rollouts=set_shards(shard_words, "rollouts"),
        grades=set_shards(shard_words, "grades"),
        scores=set_scores_option,
    shell:
        "python -m swedag attempts --set {wildcards.set} --instances {input.instances} "
        "--gates {input.gates} --rollouts {params.rollouts} --grades {params.grades} {params.scores} "
        "--output {output} &> {log}"
