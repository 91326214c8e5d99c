# Look-ups of rules/training.smk.
def instances_files(sets):
    return [
        instances_file(dataset)
        for dataset in sorted(
            {
                (CONFIG.imports.get(name) or CONFIG.rollouts[name]).dataset
                for name in sets
            }
        )
    ]


def model_settings(wildcards):
    return settings(CONFIG.models[wildcards.model])


def training_set_settings(wildcards):
    return settings(CONFIG.training_sets[wildcards.training_set].settings)


def training_set_model(wildcards):
    return model_folder(CONFIG.training_sets[wildcards.training_set].model)


def training_set_instances(wildcards):
    return instances_files(CONFIG.training_sets[wildcards.training_set].sets)


def training_set_shards(of, kind):
    def of_training_set(wildcards):
        return of(kind, CONFIG.training_sets[wildcards.training_set].sets)

    return of_training_set


def policy_start(wildcards):
    return model_folder(CONFIG.policies[wildcards.policy].start)


def policy_rows(wildcards):
    return f"{RESULTS}/sft/{CONFIG.policies[wildcards.policy].training_set}.jsonl"


def policy_settings(wildcards):
    return settings(CONFIG.training[CONFIG.policies[wildcards.policy].training])
