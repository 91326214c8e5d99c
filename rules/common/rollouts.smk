# Look-ups of rules/rollouts.smk.
import shlex
from functools import cache

from swedag.rollouts.settings import decisive, sources
from swedag.scaffolds import others


def imported(wildcards):
    return CONFIG.imports[wildcards.imported]


def import_rows(wildcards):
    return imported(wildcards).source.rows_file()


def import_instances(wildcards):
    return instances_file(imported(wildcards).dataset)


def import_policy(wildcards):
    return imported(wildcards).policy


def import_on_unknown(wildcards):
    return imported(wildcards).on_unknown


def import_words(wildcards):
    return imported(wildcards).words


def made_by(rollout_set):
    """Settings of a set, and the endpoint that its policy is, if it is one."""
    chosen = CONFIG.rollouts[rollout_set]
    return chosen.settings, CONFIG.endpoint_of(chosen.policy)


@cache
def code_of(rollout_set):
    """Found once for all jobs of a set."""
    return sources(*made_by(rollout_set))


def set_code(wildcards):
    return code_of(wildcards.set)


def set_settings(wildcards, output):
    """Derived from the output, so that Snakemake does not compare it: `decisive` has what it must compare."""
    return settings(CONFIG.rollouts[wildcards.set].settings)


def set_gpus(wildcards):
    chosen, endpoint = made_by(wildcards.set)
    return 0 if endpoint else chosen.serving.gpus()


def set_decisive(wildcards):
    return json.dumps(decisive(*made_by(wildcards.set)), sort_keys=True)


def set_policy(wildcards):
    return CONFIG.rollouts[wildcards.set].policy


def set_model(wildcards):
    policy = CONFIG.rollouts[wildcards.set].policy
    return [] if CONFIG.endpoint_of(policy) else model_folder(policy)


def set_source(wildcards, input):
    """Who answers: a folder to serve, or an endpoint."""
    endpoint = CONFIG.endpoint_of(CONFIG.rollouts[wildcards.set].policy)
    if endpoint:
        return f"--endpoint {shlex.quote(settings(endpoint))}"
    return f"--model {input.model} {server_option()}"


def set_base(wildcards):
    policy = CONFIG.policies.get(CONFIG.rollouts[wildcards.set].policy)
    return adapted(policy.start, policy.training) if policy else []


def set_image(wildcards):
    return [] if made_by(wildcards.set)[1] else tool_image(serve_image())


def set_digest(wildcards):
    return [] if made_by(wildcards.set)[1] else tool_digest(serve_image())
