# Look-ups of rules/grading.smk.
def set_gates(wildcards):
    return CONFIG.image_shards(CONFIG.rollouts[wildcards.set].dataset, "gates")


def set_shards(of, kind):
    """Files of the set, or words that stand for them, by `of`."""

    def of_set(wildcards):
        return of(kind, [wildcards.set + wildcards.first_run])

    return of_set


def set_verifier(wildcards):
    """The verifier that the table is named after, else the first that scores the set; run 0 alone leaves no choice."""
    first = None if wildcards.first_run else CONFIG.verifier_of(wildcards.set)
    return wildcards.judged.removeprefix("@") or first


def set_scores(wildcards):
    verifier = set_verifier(wildcards)
    return shards(f"scores/{verifier}", [wildcards.set]) if verifier else []


def set_scores_option(wildcards):
    verifier = set_verifier(wildcards)
    words = shard_words(f"scores/{verifier}", [wildcards.set]) if verifier else ""
    return f"--scores {words}" if words else ""
