# Look-ups of rules/verifier.smk.
def verifier_data_settings(wildcards):
    return settings(CONFIG.verifiers[wildcards.verifier].data)


def verifier_data_model(wildcards):
    """The model whose tokenizer measures the judgements, where there is a limit to them."""
    limited = CONFIG.verifiers[wildcards.verifier].data.max_tokens is not None
    return verifier_start(wildcards) if limited else []


def verifier_data_tokenizer(wildcards, input):
    return (
        f"--tokenizer {input.tokenizer_of}/tokenizer.json" if input.tokenizer_of else ""
    )


def verifier_training_settings(wildcards):
    return settings(CONFIG.training[CONFIG.verifiers[wildcards.verifier].training])


def verifier_scoring_settings(wildcards):
    return settings(CONFIG.verifiers[wildcards.verifier].scoring)


def verifier_scoring_gpus(wildcards):
    return CONFIG.verifiers[wildcards.verifier].scoring.serving.gpus()


def verifier_base(wildcards):
    verifier = CONFIG.verifiers[wildcards.verifier]
    return adapted(verifier.start, verifier.training)


def verifier_start(wildcards):
    return model_folder(CONFIG.verifiers[wildcards.verifier].start)


def verifier_shards(of, kind):
    def of_verifier(wildcards):
        return of(kind, CONFIG.verifiers[wildcards.verifier].sets)

    return of_verifier
