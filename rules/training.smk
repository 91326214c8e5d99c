# Training: base models, training sets from graded rollouts, and the checkpoints trained on them.
include: "common/training.smk"


# In no image: one that is trained here reads the standard library of its Python, which shall be the same everywhere.
rule base_model:
    input:
        code=code("models.step"),
    output:
        directory("results/models/{model}"),
    log:
        "logs/models/{model}.log",
    benchmark:
        "benchmarks/models/{model}.jsonl"
    conda:
        "../envs/tools.yaml"
    params:
        settings=model_settings,
        work="results/work/models/{model}",
    shell:
        "python -m swedag base-model --name {wildcards.model} --settings {params.settings:q} "
        "--work {params.work} --output {output} &> {log}"


rule training_set:
    input:
        code=code("training_sets"),
        instances=training_set_instances,
        rollouts=training_set_shards(shards, "rollouts"),
        grades=training_set_shards(shards, "grades"),
        model=training_set_model,
    output:
        rows="results/{run}/sft/{training_set}.jsonl",
        card="results/{run}/sft/{training_set}.card.json",
    log:
        "logs/{run}/sft/{training_set}.log",
    conda:
        "../envs/driver.yaml"
    params:
        settings=training_set_settings,
        rollouts=training_set_shards(shard_words, "rollouts"),
        grades=training_set_shards(shard_words, "grades"),
    shell:
        "python -m swedag training-set --name {wildcards.training_set} --settings {params.settings:q} "
        "--instances {input.instances} --rollouts {params.rollouts} --grades {params.grades} "
        "--tokenizer {input.model}/tokenizer.json --output {output.rows} --card {output.card} &> {log}"


rule train:
    input:
        code=code("training"),
        model=policy_start,
        rows=policy_rows,
        image=ancient(tool_image(train_image())),
        digest=tool_digest(train_image()),
    output:
        directory("results/{run}/checkpoints/{policy}"),
    log:
        "logs/{run}/checkpoints/{policy}.log",
    benchmark:
        "benchmarks/{run}/checkpoints/{policy}.jsonl"
    conda:
        "../envs/tools.yaml"
    container:
        CONFIG.train_image
    params:
        settings=policy_settings,
        work="results/{run}/work/checkpoints/{policy}",
    shell:
        "python -m swedag train --settings {params.settings:q} --model {input.model} --data {input.rows} "
        "--work {params.work} --output {output} &> {log}"
