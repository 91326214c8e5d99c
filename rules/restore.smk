# Restore: released artifacts, by URL and digest, take the place of the jobs that would make them.
include: "common/restore.smk"


ruleorder:
    restore_file
    > restore_folder
    > synthesize
    > releases
    > instances
    > gates
    > rollouts
    > grade
    > attempts
    > base_model
    > training_set
    > train
    > verifier_data
    > train_verifier
    > score


rule restore_file:
    input:
        code=code("restore"),
    output:
        "{restored}",
    log:
        "logs/restore/{restored}.log",
    wildcard_constraints:
        restored=one_of(restored("file")),
    conda:
        "../envs/driver.yaml"
    params:
        settings=restore_settings,
    shell:
        "python -m swedag restore --settings {params.settings:q} --output {output} &> {log}"


rule restore_folder:
    input:
        code=code("restore"),
    output:
        directory("{restored}"),
    log:
        "logs/restore/{restored}.log",
    wildcard_constraints:
        restored=one_of(restored("folder")),
    conda:
        "../envs/driver.yaml"
    params:
        settings=restore_settings,
    shell:
        "python -m swedag restore --folder --settings {params.settings:q} --output {output} &> {log}"
