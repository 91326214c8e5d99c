"""Training sets: graded rollouts in, conversations for supervised fine-tuning and a data card out.

Rejection sampling as in the paper (section 3): resolved rollouts alone are kept, then those that are short enough, one
of each patch, one of each instance, and up to a cap per instance those with the fewest model calls (section 3.3; of as
many calls, the lower run); they are sorted, and cut to a fraction (Table 7). A mixture is a set of several rollout
sets. The card counts what each filter left, and has lengths as Table 8 and repositories as Table 7.
"""

import random
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag.artifacts import read_jsonl, sha256_file, write_json, write_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.instances import Instance, read_instances
from swedag.trajectory import Rollout


class TrainingSetSettings(BaseModel):
    """How graded rollouts become training rows."""

    model_config = ConfigDict(extra="forbid")

    cap: int | None = Field(
        None, ge=1, description="Rollouts kept per instance, those with the fewest model calls first"
    )
    distinct_patches: bool = Field(
        False, description="Keep one rollout of those of an instance that made the same patch"
    )
    one_per_instance: bool = Field(
        False, description="Keep one rollout per instance, drawn at random (the paper's dedup)"
    )
    sort: Literal["random", "repository"] = Field(
        "random", description="Order before the cut: shuffled, or by repository name in ASCII order (Table 7)"
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="Share of the sorted rows to keep, rounded down, cut amid a repository (Table 7)"
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Drop rollouts with more tokens of content than this, by the tokenizer of `model`"
    )
    seed: int = Field(0, description="Seed of every random choice above")


Graded = tuple[Rollout, Grade]


def join(rollouts: list[Rollout], grades: list[Grade]) -> list[Graded]:
    """Pair rollouts with their grades by (instance, run, patch); a rollout without its grade is an error."""
    if len(rollouts) != len(grades):
        raise SwedagError(f"{len(rollouts)} rollouts but {len(grades)} grades: give the same shards to both")
    pairs = list(zip(rollouts, grades, strict=True))
    for rollout, grade in pairs:
        if (rollout.instance_id, rollout.run) != (grade.instance_id, grade.run):
            raise SwedagError(
                f"grade of {grade.instance_id} run {grade.run} where {rollout.instance_id} run {rollout.run} was due"
            )
    return pairs


def select(
    graded: list[Graded],
    repositories: dict[str, str],
    settings: TrainingSetSettings,
    tokens: dict[int, int] | None = None,
) -> tuple[list[Graded], dict[str, int]]:
    """Rows that stay, in training order, and how many were left after each filter.

    `repositories` maps instance_id to repo; `tokens` maps the id() of a rollout to its length in tokens.
    """
    rng = random.Random(settings.seed)
    left = {"rollouts": len(graded)}
    rows = [pair for pair in graded if pair[1].outcome == "resolved"]
    left["resolved"] = len(rows)
    if settings.max_tokens is not None and tokens is not None:
        rows = [pair for pair in rows if tokens[id(pair[0])] <= settings.max_tokens]
        left["max_tokens"] = len(rows)
    if settings.distinct_patches:
        first = {(pair[0].instance_id, pair[0].patch): pair for pair in reversed(rows)}
        rows = [pair for pair in rows if first[(pair[0].instance_id, pair[0].patch)] is pair]
        left["distinct_patches"] = len(rows)
    if settings.one_per_instance:
        rows = [rng.choice(of_instance) for of_instance in _by_instance(rows).values()]
        left["one_per_instance"] = len(rows)
    if settings.cap is not None:
        fewest_first = {
            name: sorted(of, key=lambda pair: (pair[0].turns, pair[0].run)) for name, of in _by_instance(rows).items()
        }
        rows = [pair for of_instance in fewest_first.values() for pair in of_instance[: settings.cap]]
        left["cap"] = len(rows)
    if settings.sort == "random":
        rng.shuffle(rows)
    else:
        rows.sort(key=lambda pair: repositories[pair[0].instance_id])
    if settings.fraction < 1:
        rows = rows[: int(len(rows) * Fraction(str(settings.fraction)))]
        left["fraction"] = len(rows)
    return rows, left


def _by_instance(rows: list[Graded]) -> dict[str, list[Graded]]:
    groups: dict[str, list[Graded]] = defaultdict(list)
    for pair in rows:
        groups[pair[0].instance_id].append(pair)
    return dict(sorted(groups.items()))


def count_tokens(rollouts: list[Rollout], tokenizer: Path) -> dict[int, int]:
    """Tokens of all messages' contents, by id() of the rollout; the chat template's own markers are not counted."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))
    return {
        id(rollout): sum(
            len(encoder.encode(message.content, add_special_tokens=False).ids) for message in rollout.messages
        )
        for rollout in rollouts
    }


def percentiles(values: list[int]) -> dict[str, float]:
    """Count, mean, standard deviation (of a sample), extremes and percentiles, as in the paper's Table 8."""
    if not values:
        return {"count": 0}
    import numpy

    points = (5, 10, 25, 50, 75, 90, 95)
    return {
        "count": len(values),
        "mean": round(float(numpy.mean(values)), 1),
        "std": round(float(numpy.std(values, ddof=1)), 1) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
        **{f"p{point}": float(numpy.percentile(values, point)) for point in points},
    }


def main(
    settings: Annotated[str, typer.Option(help="TrainingSetSettings as JSON")],
    name: Annotated[str, typer.Option(help="Name of the training set")],
    instances: Annotated[list[Path], typer.Option(help="Instance files of the rollouts")],
    rollouts: Annotated[list[Path], typer.Option(help="Rollout shards; repeat the option")],
    grades: Annotated[list[Path], typer.Option(help="Grade shards, in the order of the rollout shards")],
    tokenizer: Annotated[Path, typer.Option(help="tokenizer.json of the model to be trained")],
    output: Annotated[Path, typer.Option(help="Training rows (.jsonl)")],
    card: Annotated[Path, typer.Option(help="Data card (.json)")],
) -> None:
    """Turn graded rollouts into a training set: resolved only, capped, deduplicated, sorted, cut; with a data card."""
    chosen = TrainingSetSettings.model_validate_json(settings)
    rows_in = [row for path in rollouts for row in read_jsonl(path, Rollout)]
    grades_in = [row for path in grades for row in read_jsonl(path, Grade)]
    known: dict[str, Instance] = {}
    for path in instances:
        known |= read_instances(path)
    tokens = count_tokens(rows_in, tokenizer)
    graded = join(rows_in, grades_in)
    rows, left = select(graded, {key: row.repo for key, row in known.items()}, chosen, tokens)
    if not rows:
        raise SwedagError(
            f"training set {name}: no rollout is left ({left}); "
            "sample more runs, raise the temperature or loosen the filters"
        )
    written = [row for rollout, _ in rows for row in conversations_of(rollout)]
    write_jsonl(output, written)
    kinds = {
        kind: [rollout for rollout, grade in graded if (grade.outcome == "resolved") is (kind == "resolved")]
        for kind in ("resolved", "unresolved")
    }
    write_json(
        card,
        {
            "name": name,
            "settings": chosen.model_dump(),
            "left_after": left,
            "rows": len(written),
            "instances": len({rollout.instance_id for rollout, _ in rows}),
            "repositories": dict(sorted(Counter(known[rollout.instance_id].repo for rollout, _ in rows).items())),
            "policies": dict(sorted(Counter(rollout.policy for rollout, _ in rows).items())),
            **{f"tokens_{kind}": percentiles([tokens[id(row)] for row in of]) for kind, of in kinds.items()},
            **{f"messages_{kind}": percentiles([len(row.messages) for row in of]) for kind, of in kinds.items()},
            "tokens": percentiles([tokens[id(rollout)] for rollout, _ in rows]),
            "messages": percentiles([len(rollout.messages) for rollout, _ in rows]),
            "ids": [f"{rollout.instance_id}:{rollout.run}" for rollout, _ in rows],
            "inputs": {str(path): sha256_file(path) for path in [*instances, *rollouts, *grades, tokenizer]},
            "rows_sha256": sha256_file(output),
        },
    )


def conversations_of(rollout: Rollout) -> list[dict[str, Any]]:
    """A row per conversation: one, but for a scaffold of independent calls one for each of them."""
    return [
        {
            "messages": [message.model_dump() for message in conversation],
            "instance_id": rollout.instance_id,
            "run": rollout.run,
        }
        for conversation in rollout.conversations()
    ]
