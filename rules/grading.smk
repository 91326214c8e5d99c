# Grades: every patch of a rollout shard, applied and tested in a fresh sandbox; then one table of attempts per set.


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


rule grade:
    input:
        code=code("grading.step"),
        instances=set_instances,
        environment=set_environment,
        layers=shard_layers,
        pulls=shard_pulls,
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
        rollouts=set_shards("rollouts"),
        grades=set_shards("grades"),
        scores=set_scores,
    output:
        "results/{run}/attempts/{set}{judged}.csv",
    log:
        "logs/{run}/attempts/{set}{judged}.log",
    wildcard_constraints:
        judged=r"|@[A-Za-z0-9_-]+",
    conda:
        "../envs/driver.yaml"
    params:
        gates=set_gate_files,
        scores=option("scores"),
    shell:
        "python -m swedag attempts --set {wildcards.set} --instances {input.instances} "
        "--gates {params.gates} --rollouts {input.rollouts} --grades {input.grades} {params.scores} "
        "--output {output} &> {log}"
