"""Verifier data: graded rollouts in; balanced judgements to learn from and a data card out.

The paper (section 4, B.5) takes resolved and unresolved rollouts one to one, off-policy (a teacher's), on-policy (of
the policy to be judged) or both: name the rollout sets. It writes that each of the two was balanced; the released code
draws the unresolved ones from all (`balance`). Rollouts without a verdict are not used. Judgements beyond the token
limit are dropped, as the paper's beyond 32,768 tokens, or cut as `judgement.fit` does and flagged.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag.artifacts import read_jsonl, sha256_file, write_json, write_jsonl
from swedag.errors import SwedagError
from swedag.grades import NO_VERDICT, Grade
from swedag.judgement import Asked, Form, answer, fit, question
from swedag.training_sets import join, percentiles
from swedag.trajectory import Message, Rollout

Judged = tuple[Rollout, bool]


class VerifierDataSettings(BaseModel):
    """How graded rollouts become judgements."""

    model_config = ConfigDict(extra="forbid")

    form: Form = Field(
        "paper",
        description="What the verifier is shown: the paper's log (B.5) or patch (B.4), or plainly task and reply",
    )
    negatives_per_positive: float = Field(1.0, gt=0, description="Unresolved rollouts for each resolved one")
    balance: Literal["all", "policy"] = Field(
        "all", description="Where that ratio holds: in all rows, or in the rows of each policy that was sampled"
    )
    cap: int | None = Field(None, ge=1, description="Most resolved, and most unresolved, rollouts of an instance")
    distinct_patches: bool = Field(True, description="Of rollouts of an instance with the same patch, keep one")
    max_tokens: int | None = Field(
        None, ge=1, description="Longest judgement, in tokens of its text by the tokenizer of `start`"
    )
    long: Literal["drop", "cut"] = Field(
        "drop", description="A longer one is dropped, or messages are left out in the middle of its log, with a flag"
    )
    seed: int = Field(42, description="Seed of the draws")


def main(
    settings: Annotated[str, typer.Option(help="VerifierDataSettings as JSON")],
    rollouts: Annotated[list[Path], typer.Option(help="Rollout shards")],
    grades: Annotated[list[Path], typer.Option(help="Grade shards, in the order of the rollout shards")],
    output: Annotated[Path, typer.Option(help="Judgements (.jsonl)")],
    card: Annotated[Path, typer.Option(help="Data card (.json)")],
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json of the model; max_tokens needs it")] = None,
) -> None:
    """Draw resolved and unresolved rollouts in balance and write them as judgements to learn."""
    chosen = VerifierDataSettings.model_validate_json(settings)
    graded = join(
        [row for path in rollouts for row in read_jsonl(path, Rollout)],
        [row for path in grades for row in read_jsonl(path, Grade)],
    )
    judged = [(rollout, grade.outcome == "resolved") for rollout, grade in graded if grade.outcome not in NO_VERDICT]
    left = {"judged": _counts(judged)}
    asked: dict[int, Asked] = {}
    if chosen.max_tokens is not None:
        if tokenizer is None:
            raise SwedagError(
                "verifier data: max_tokens needs --tokenizer, the tokenizer.json of the model to be trained"
            )
        judged, asked = short_enough(judged, chosen, chosen.max_tokens, _tokenize(tokenizer, chosen.form))
        left["max_tokens"] = _counts(judged)
    rows = balance(judged, chosen)
    left["balance"] = _counts(rows)
    kept = [asked[id(rollout)] for rollout, _ in rows if id(rollout) in asked]
    write_jsonl(output, [_conversation(rollout, resolved, chosen.form, asked) for rollout, resolved in rows])
    write_json(
        card,
        {
            "settings": chosen.model_dump(),
            "rollouts": len(graded),
            "left_after": left,
            "policies": dict(sorted(Counter(rollout.policy for rollout, _ in rows).items())),
            "instances": len({rollout.instance_id for rollout, _ in rows}),
            "cut": sum(one.cut for one in kept),
            "tokens": percentiles([len(one.tokens) for one in kept]),
            "ids": [f"{rollout.policy}/{rollout.instance_id}:{rollout.run}" for rollout, _ in rows],
            "inputs": {str(path): sha256_file(path) for path in [*rollouts, *grades, *filter(None, [tokenizer])]},
            "rows_sha256": sha256_file(output),
        },
    )


def _counts(judged: list[Judged]) -> dict[str, int]:
    resolved = sum(kind for _, kind in judged)
    return {"resolved": resolved, "unresolved": len(judged) - resolved}


def _tokenize(tokenizer: Path, form: Form) -> Callable[[list[Message]], list[int]]:
    """Tokens of a question and its answer; the chat template's own markers are not counted."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))

    def tokens(messages: list[Message]) -> list[int]:
        texts = [*(message.content for message in messages), answer(True, form)]
        return [token for text in texts for token in encoder.encode(text, add_special_tokens=False).ids]

    return tokens


def short_enough(
    judged: list[Judged], settings: VerifierDataSettings, limit: int, tokenize: Callable[[list[Message]], list[int]]
) -> tuple[list[Judged], dict[int, Asked]]:
    """Those within the limit, by themselves or when cut, and what is asked of each, by id() of the rollout."""
    asked = {}
    for rollout, _ in judged:
        if settings.long == "cut":
            asked[id(rollout)] = fit(rollout, settings.form, limit, tokenize)
        else:
            shown = question(rollout, settings.form)
            asked[id(rollout)] = Asked(shown, tokenize(shown))
    kept = [(rollout, resolved) for rollout, resolved in judged if len(asked[id(rollout)].tokens) <= limit]
    return kept, asked


def balance(judged: list[Judged], settings: VerifierDataSettings) -> list[Judged]:
    """Capped, distinct, in the asked ratio and shuffled; SwedagError when one kind is wholly absent."""
    rng = random.Random(settings.seed)
    if settings.balance == "all":
        return _balanced(judged, settings, rng)
    policies = sorted({rollout.policy for rollout, _ in judged})
    of_policy = [[pair for pair in judged if pair[0].policy == policy] for policy in policies]
    rows = [pair for pairs in of_policy for pair in _balanced(pairs, settings, rng)]
    rng.shuffle(rows)
    return rows


def _balanced(judged: list[Judged], settings: VerifierDataSettings, rng: random.Random) -> list[Judged]:
    by_kind: dict[bool, list[Judged]] = {True: [], False: []}
    for kind, kept in by_kind.items():
        of_instance: dict[str, list[Rollout]] = defaultdict(list)
        for rollout, resolved in judged:
            if resolved is kind:
                of_instance[rollout.instance_id].append(rollout)
        for _, group in sorted(of_instance.items()):
            if settings.distinct_patches:
                group = list({rollout.patch: rollout for rollout in reversed(group)}.values())
            rng.shuffle(group)
            kept += [(rollout, kind) for rollout in group[: settings.cap]]
        rng.shuffle(kept)
    counts = Counter(kind for kind, kept in by_kind.items() for _ in kept)
    if not counts[True] or not counts[False]:
        where = f" of policy {judged[0][0].policy}" if judged and settings.balance == "policy" else ""
        raise SwedagError(
            f"verifier data needs both kinds{where}: {counts[True]} resolved, {counts[False]} unresolved rollouts"
        )
    positives = min(counts[True], int(counts[False] / settings.negatives_per_positive) or 1)
    negatives = min(counts[False], round(positives * settings.negatives_per_positive) or 1)
    rows = by_kind[True][:positives] + by_kind[False][:negatives]
    rng.shuffle(rows)
    return rows


def _conversation(rollout: Rollout, resolved: bool, form: Form, asked: dict[int, Asked]) -> dict[str, Any]:
    found = asked.get(id(rollout)) or Asked(question(rollout, form), [])
    return {
        "messages": [
            *(message.model_dump() for message in found.messages),
            {"role": "assistant", "content": answer(resolved, form)},
        ],
        "instance_id": rollout.instance_id,
        "run": rollout.run,
        "cut": found.cut,
    }
