"""The step `import-rollouts`: published trajectories or predictions in; rollouts, and the published verdicts, out.

    swedag import-rollouts train.raw.parquet --policy teacher --output rollouts.jsonl --grades grades.jsonl

Told apart by what is in them: rows of SWE-Gym/OpenHands-Sampled-Trajectories and -SFT-Trajectories (`messages`), of
mini-swe-agent's `.traj.json`, and SWE-bench predictions (`model_patch`). The runs of an instance are numbered in the
order of the rows. A row without an id belongs to the instance of --instances whose issue stands in its first question.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from swedag.artifacts import read_jsonl, sha256, write_jsonl, write_text
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.imports.openhands import OpenHandsRow, Said, conversation
from swedag.imports.templates import templates as templates_of
from swedag.instances import Instance
from swedag.predictions import Prediction, read_predictions
from swedag.scaffolds.codeact.agent import CodeActSettings, opening
from swedag.trajectory import Exit, Message, Rollout

Words = Literal["published", "ours"]
MINI_EXITS: dict[str, Exit] = {"Submitted": "submitted", "LimitsExceeded": "max_turns", "RepeatedFormatError": "stuck"}
NO_PATCH = "the published row does not tell its patch"


@dataclass(frozen=True)
class Published:
    """What a row tells. No id: to be found by the issue; no patch, no verdict: not told."""

    place: str
    scaffold: str
    messages: list[Message]
    instance_id: str | None
    patch: str | None
    resolved: bool | None = None
    exit: Exit = "submitted"
    remark: str = ""


class MiniInfo(BaseModel):
    model_config = ConfigDict(extra="ignore")

    exit_status: str | None = None
    submission: str | None = None


class MiniTrajectory(BaseModel):
    """A trajectory of mini-swe-agent 1 and 2; of the earliest, a bare list, only the messages are there."""

    model_config = ConfigDict(extra="ignore")

    messages: list[Said]
    info: MiniInfo = MiniInfo()
    instance_id: str | None = None


def read(path: Path) -> list[Published]:
    """All trajectories or predictions of a file; SwedagError names file, row and fault."""
    if not path.is_file():
        raise SwedagError(f"{path}: no such file")
    if path.name.endswith(".traj.json"):
        return [_mini(path)]
    if path.suffix == ".json":
        return [_prediction(path, row) for row in read_predictions(path)]
    found = []
    for place, row in _rows(path):
        try:
            if "messages" in row:
                found.append(_openhands(place, OpenHandsRow.model_validate(row)))
            elif "model_patch" in row:
                found.append(_prediction(path, Prediction.model_validate(row)))
            else:
                raise SwedagError(
                    f"{place}: neither a trajectory (`messages`) nor a prediction (`model_patch`); "
                    f"its columns are {', '.join(row) or 'none'}"
                )
        except ValidationError as error:
            first = error.errors()[0]
            raise SwedagError(f"{place}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except ValueError as error:
            raise SwedagError(f"{place}: {error}") from error
    return found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.read_table(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise SwedagError(f"{path}: no readable parquet file: {error}") from error
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(table.to_pylist(), 1))
        return
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise SwedagError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise SwedagError(f"{path}:{number}: a row is an object, this is {line.strip()[:40]!r}")
            yield f"{path}:{number}", row


def _openhands(place: str, row: OpenHandsRow) -> Published:
    patch = row.patch()
    return Published(
        place=place,
        scaffold="codeact",
        messages=conversation(row),
        instance_id=row.instance_id,
        patch=patch,
        # The SFT rows carry no verdict because each of them is of a resolved instance.
        resolved=True if row.resolved is None and row.instance_id is None else row.resolved,
        remark=NO_PATCH if patch is None else "",
    )


def _mini(path: Path) -> Published:
    try:
        whole = json.loads(path.read_text())
        trajectory = MiniTrajectory.model_validate({"messages": whole} if isinstance(whole, list) else whole)
    except (json.JSONDecodeError, ValidationError) as error:
        raise SwedagError(f"{path}: no trajectory of mini-swe-agent: {error}") from error
    status = trajectory.info.exit_status
    messages = [_said(said) for said in trajectory.messages if said.role != "exit"]
    return Published(
        place=str(path),
        scaffold="mini",
        messages=messages,
        instance_id=trajectory.instance_id or path.name.removesuffix(".traj.json"),
        patch=trajectory.info.submission,
        exit="submitted" if status is None else MINI_EXITS.get(status, "stuck"),
        remark=NO_PATCH if trajectory.info.submission is None else "",
    )


def _said(said: Said) -> Message:
    """A message as text: a call of the bash tool as the package's other form has it, a result as the user's."""
    if said.role in ("tool", "exit"):
        return Message(role="user", content=said.text())
    commands = [json.loads(call.function.arguments).get("command", "") for call in said.tool_calls or []]
    blocks = [f"```mswea_bash_command\n{command}\n```" for command in commands]
    return Message(role=said.role, content="\n\n".join(filter(None, (said.text(), *blocks))))


def _prediction(path: Path, row: Prediction) -> Published:
    return Published(f"{path}: {row.instance_id}", "unknown", [], row.instance_id, row.model_patch or "")


class UnknownInstanceError(SwedagError):
    """A row belongs to no instance that is known."""


def rollouts(
    published: list[Published],
    policy: str,
    instances: list[Instance],
    *,
    skip_unknown: bool = False,
    words: Words = "published",
) -> list[tuple[Rollout, bool | None]]:
    """Each with the published verdict, sorted by instance and run. SwedagError for a row of no known instance."""
    known = {instance.instance_id.lower(): instance.instance_id for instance in instances}
    by_id = {instance.instance_id: instance for instance in instances}
    runs: Counter[str] = Counter()
    made = []
    for row in published:
        try:
            instance_id = _instance_of(row, known, instances)
        except UnknownInstanceError:
            if skip_unknown:
                continue
            raise
        if words == "ours":
            row = replace(row, messages=_in_our_words(row, by_id[instance_id]))
        made.append((_rollout(row, instance_id, runs[instance_id], policy), row.resolved))
        runs[instance_id] += 1
    return sorted(made, key=lambda pair: (pair[0].instance_id, pair[0].run))


def _in_our_words(row: Published, instance: Instance) -> list[Message]:
    """The conversation with the system message and the question that the codeact scaffold would begin it with."""
    if row.scaffold != "codeact" or [message.role for message in row.messages[:2]] != ["system", "user"]:
        raise SwedagError(
            f"{row.place}: no CodeAct trajectory with a system message and a question; keep its own words"
        )
    return [*opening(instance, CodeActSettings(example=False)), *row.messages[2:]]


def _instance_of(row: Published, known: dict[str, str], instances: list[Instance]) -> str:
    instance_id = row.instance_id or _by_issue(row, instances)
    if instances and instance_id.lower() not in known:
        raise UnknownInstanceError(f"{row.place}: no instance {instance_id} in --instances")
    return known.get(instance_id.lower(), instance_id)


def _by_issue(row: Published, instances: list[Instance]) -> str:
    asked = _plain(next((message.content for message in row.messages if message.role == "user"), ""))
    found = [
        item.instance_id for item in instances if item.problem_statement and _plain(item.problem_statement) in asked
    ]
    if len(found) != 1:
        told = "none of --instances has its issue" if not found else f"{', '.join(found[:3])} have its issue"
        raise UnknownInstanceError(f"{row.place}: the row tells no instance_id, and {told}")
    return found[0]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _rollout(row: Published, instance_id: str, run: int, policy: str) -> Rollout:
    return Rollout(
        instance_id=instance_id,
        run=run,
        policy=policy,
        scaffold=row.scaffold,
        seed=0,
        temperature=0.0,
        messages=row.messages,
        patch=row.patch or "",
        exit=row.exit,
        error=row.remark,
        turns=sum(message.role == "assistant" for message in row.messages),
        prompt_tokens=0,
        completion_tokens=0,
        seconds=0.0,
    )


def _grade(rollout: Rollout, resolved: bool) -> Grade:
    return Grade(
        instance_id=rollout.instance_id,
        run=rollout.run,
        patch_sha256=sha256(rollout.patch),
        outcome="resolved" if resolved else "unresolved" if rollout.patch.strip() else "empty_patch",
        resolved=resolved,
        official_resolved=resolved,
        reason="as published; not tested here",
    )


def _write_templates(path: Path, made: list[Rollout], instances: list[Instance]) -> None:
    first = next((rollout for rollout in made if rollout.messages), None)
    of_first = [instance for instance in instances if first and instance.instance_id == first.instance_id]
    if first is None or not of_first:
        raise SwedagError("--templates: needs a trajectory with messages, and its instance in --instances")
    write_text(path, yaml.safe_dump(templates_of(first.messages, of_first[0]), sort_keys=True, allow_unicode=True))


def main(
    files: Annotated[
        list[Path], typer.Argument(help="Trajectories (.parquet, .jsonl, .traj.json) or predictions (.json[l])")
    ],
    policy: Annotated[str, typer.Option(help="Name of the policy that sampled them, for the records")],
    output: Annotated[Path, typer.Option(help="Rollouts (JSONL)")],
    instances: Annotated[
        Path | None, typer.Option(help="Instances (JSONL); needed for rows without an id, and checked for all")
    ] = None,
    grades: Annotated[Path | None, typer.Option(help="Where the published verdicts go, as grades (JSONL)")] = None,
    on_unknown: Annotated[
        Literal["refuse", "skip"], typer.Option(help="What to do with a row of no instance of --instances")
    ] = "refuse",
    words: Annotated[
        Words, typer.Option(help="Begin with the published words, or with those of our codeact scaffold (--instances)")
    ] = "published",
    templates: Annotated[
        Path | None, typer.Option(help="Where the words go that the first trajectory begins with: keys of `scaffold`")
    ] = None,
) -> None:
    """Read published trajectories or predictions as rollouts."""
    if words == "ours" and instances is None:
        raise SwedagError("--words ours: needs --instances, whose issues stand in the questions")
    known = read_jsonl(instances, Instance) if instances else []
    published = [row for path in files for row in read(path)]
    made = rollouts(published, policy, known, skip_unknown=on_unknown == "skip", words=words)
    verdicts = [_grade(rollout, resolved) for rollout, resolved in made if resolved is not None]
    if grades and len(verdicts) < len(made):
        raise SwedagError(
            f"--grades: {len(made) - len(verdicts)} of {len(made)} rows carry no verdict; grade the rollouts instead"
        )
    if templates:
        _write_templates(templates, [rollout for rollout, _ in made], known)
    write_jsonl(output, [rollout for rollout, _ in made])
    if grades:
        write_jsonl(grades, verdicts)
    said = (
        f"{len(made)} rollouts of {len({rollout.instance_id for rollout, _ in made})} instances, "
        f"{sum(not rollout.patch for rollout, _ in made)} without a patch, {sum(v.resolved is True for v in verdicts)} "
        f"published as resolved; {len(published) - len(made)} rows of other instances left out"
    )
    Console(stderr=True).print(said, highlight=False, soft_wrap=True)
