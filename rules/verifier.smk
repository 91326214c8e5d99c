# Verifier: judgements to learn from and their card, the model trained on them, and a score for every rollout of a set.
include: "common/verifier.smk"


rule verifier_data:
    input:
        code=code("verifier_data"),
        rollouts=verifier_shards(shards, "rollouts"),
        grades=verifier_shards(shards, "grades"),
        tokenizer_of=verifier_data_model,
    output:
        rows="results/{run}/verifiers/{verifier}/data.jsonl",
        card="results/{run}/verifiers/{verifier}/data.card.json",
    log:
        "logs/{run}/verifiers/{verifier}/data.log",
    conda:
        "../envs/driver.yaml"
    params:
        settings=verifier_data_settings,
        rollouts=verifier_shards(shard_words, "rollouts"),
        grades=verifier_shards(shard_words, "grades"),
        tokenizer=verifier_data_tokenizer,
    shell:
        "python -m swedag verifier-data --settings {params.settings:q} {params.tokenizer} "
        "--rollouts {params.rollouts} --grades {params.grades} --output {output.rows} --card {output.card} &> {log}"


rule train_verifier:
    input:
        code=code("training"),
        model=verifier_start,
        rows="results/{run}/verifiers/{verifier}/data.jsonl",
        image=ancient(tool_image(train_image())),
        digest=tool_digest(train_image()),
    output:
        directory("results/{run}/verifiers/{verifier}/checkpoint"),
    log:
        "logs/{run}/verifiers/{verifier}/checkpoint.log",
    benchmark:
        "benchmarks/{run}/verifiers/{verifier}/checkpoint.jsonl"
    conda:
        "../envs/tools.yaml"
    container:
        CONFIG.train_image
    params:
        settings=verifier_training_settings,
        work="results/{run}/work/verifiers/{verifier}",
    shell:
        "python -m swedag train --settings {params.settings:q} --model {input.model} --data {input.rows} "
        "--work {params.work} --output {output} &> {log}"


rule score:
    input:
        code=code("verifier"),
        model="results/{run}/verifiers/{verifier}/checkpoint",
        rollouts="results/{run}/rollouts/{set}/runs-{first}-{last}/shard-{shard}.jsonl",
        base=verifier_base,
        image=ancient(tool_image(serve_image())),
        digest=tool_digest(serve_image()),
    output:
        "results/{run}/scores/{verifier}/{set}/runs-{first}-{last}/shard-{shard}.jsonl",
    log:
        "logs/{run}/scores/{verifier}/{set}/runs-{first}-{last}/shard-{shard}.log",
    benchmark:
        "benchmarks/{run}/scores/{verifier}/{set}/runs-{first}-{last}/shard-{shard}.jsonl"
    conda:
        "../envs/driver.yaml"
    resources:
        gpu=verifier_scoring_gpus,
    params:
        settings=verifier_scoring_settings,
        server=server_option(),
        work="results/{run}/work/scores/{verifier}/{set}/runs-{first}-{last}/shard-{shard}",
    shell:
        "python -m swedag score --settings {params.settings:q} {params.server} "
        "--rollouts {input.rollouts} --model {input.model} --work {params.work} --output {output} &> {log}"
