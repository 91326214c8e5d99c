"""Instances: the typed row that every step reads (SWE-Gym's fields, and what swedag needs to build and grade it)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from swedag.artifacts import read_jsonl, sha256
from swedag.errors import SwedagError


class Target(BaseModel):
    """The function in question, which a single-call scaffold is shown. Lines are 1-based and inclusive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    function: str
    first_line: int
    last_line: int


class Instance(BaseModel):
    """One task: a repository at a base commit, an issue, and the tests that tell whether it is resolved.

    `patch` is the gold patch (base to fixed) and `test_patch` the tests that come with it (empty for synthesised
    instances, whose tests are in the repository already). `bug_patch` makes the base from the released source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_id: str
    repo: str
    version: str
    base_commit: str = ""
    problem_statement: str
    hints_text: str = ""
    created_at: str = ""
    patch: str
    test_patch: str = ""
    bug_patch: str = ""
    FAIL_TO_PASS: list[str]
    PASS_TO_PASS: list[str]
    environment: str
    source: str
    test_command: str
    test_files: list[str]
    log_parser: str = "pytest"
    target: Target | None = None


def read_instances(path: Path) -> dict[str, Instance]:
    """The rows of an instance file by id, in the file's order; a doubled id is an error."""
    rows = read_jsonl(path, Instance)
    by_id = {row.instance_id: row for row in rows}
    if len(by_id) < len(rows):
        doubled = sorted({row.instance_id for row in rows if sum(r.instance_id == row.instance_id for r in rows) > 1})
        raise SwedagError(f"{path}: instance_id stands more than once: {', '.join(doubled[:5])}")
    return by_id


def image_files(images: Path, instance: Instance) -> tuple[Path, Path | None]:
    """Environment image and instance layer; no layer where an instance names no environment: its image is whole.

    The name of a layer with a bug says which: another run, with other settings, may number its bugs alike.
    """
    if not instance.environment:
        return images / "instances" / f"{instance.instance_id}.sif", None
    bug = f".{sha256(instance.bug_patch)[:8]}" if instance.bug_patch else ""
    layer = images / "instances" / f"{instance.instance_id}{bug}.sqsh"
    return images / "envs" / f"{instance.environment}.sif", layer
