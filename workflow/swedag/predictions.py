"""`swedag predictions`: rollouts in the prediction format of SWE-bench, to be graded by its own harness or sent to a
leaderboard; and such files read back.

A prediction is `{"instance_id", "model_name_or_path", "model_patch"}`. A file has one per instance: JSON lines, or JSON
as a list or by instance.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from rich.console import Console

from swedag.artifacts import read_jsonl, write_jsonl, write_text
from swedag.errors import SwedagError
from swedag.trajectory import Rollout


class Prediction(BaseModel):
    """One patch. No patch is none or an empty one; other columns of a publisher are left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instance_id: str
    model_name_or_path: str = ""
    model_patch: str | None


def predictions(rollouts: list[Rollout], run: int | None = None, name: str | None = None) -> list[Prediction]:
    """Those of one run, sorted by instance; what machinery prevented is no prediction.

    SwedagError when several runs could be meant, or an instance has two rollouts in the one.
    """
    runs = sorted({row.run for row in rollouts})
    if run is None and len(runs) > 1:
        raise SwedagError(
            f"the rollouts are of runs {runs[0]} to {runs[-1]}, a prediction is of one: choose it by --run"
        )
    chosen = [row for row in rollouts if run in (None, row.run)]
    if not chosen:
        raise SwedagError(f"no rollouts of run {run}; there are {', '.join(map(str, runs)) or 'none'}")
    twice = [instance for instance, count in Counter(row.instance_id for row in chosen).items() if count > 1]
    if twice:
        raise SwedagError(
            f"{twice[0]} has several rollouts of run {chosen[0].run}: give the files of one rollout set, once"
        )
    return [
        Prediction(instance_id=row.instance_id, model_name_or_path=name or row.policy, model_patch=row.patch)
        for row in sorted(chosen, key=lambda row: row.instance_id)
        if row.exit != "infrastructure"
    ]


def read_predictions(path: Path) -> list[Prediction]:
    """All predictions of a file (.jsonl, or .json as a list or by instance). SwedagError names file and place."""
    if path.suffix == ".jsonl":
        return read_jsonl(path, Prediction)
    try:
        whole = json.loads(path.read_text())
        return TypeAdapter(list[Prediction]).validate_python([*whole.values()] if isinstance(whole, dict) else whole)
    except (OSError, json.JSONDecodeError) as error:
        raise SwedagError(f"{path}: cannot be read as JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SwedagError(f"{path}: prediction {place}: {first['msg']}") from error


def main(
    rollouts: Annotated[list[Path], typer.Option(help="Rollout shards (JSONL) of one set")],
    output: Annotated[Path, typer.Option(help="Predictions (.jsonl, or .json for a list)")],
    run: Annotated[int | None, typer.Option(help="Which run, where the shards have several")] = None,
    name: Annotated[str | None, typer.Option(help="model_name_or_path; default: the policy")] = None,
) -> None:
    """Write rollouts as SWE-bench predictions."""
    rows = [row for path in rollouts for row in read_jsonl(path, Rollout)]
    made = predictions(rows, run, name)
    if output.suffix == ".json":
        write_text(output, json.dumps([row.model_dump() for row in made], indent=1) + "\n")
    elif output.suffix == ".jsonl":
        write_jsonl(output, made)
    else:
        raise SwedagError(f"--output {output}: predictions are .jsonl or .json files")
    absent = len([row for row in rows if run in (None, row.run)]) - len(made)
    empty = sum(not row.model_patch for row in made)
    said = f"{len(made)} predictions, {empty} of them empty; {absent} rollouts were prevented by machinery and left out"
    Console(stderr=True).print(said, highlight=False, soft_wrap=True)
