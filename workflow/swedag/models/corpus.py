"""The corpus that a model trained from scratch learns from: repairs of bugs put into installed Python code.

In: settings and the source files of the standard library or of installed packages. Out: conversations, each a problem
statement and a numbered function answered in the grammar of `swedag.edits`. A stated share of the answers gives up, and
another changes the wrong place, as published models do before fine-tuning (paper, section 3.2); rejection sampling
has that to remove. Nothing is run, so nothing tells the right answers from the wrong ones but their share.
"""

import importlib.util
import random
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swedag import edits
from swedag.artifacts import sha256
from swedag.errors import SwedagError
from swedag.issues import issue_text
from swedag.mutations import Bug, bugs_in
from swedag.trajectory import Message

# Tests, demonstrations and parts that some distributions package apart: left out, so that machines see the same files.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "tkinter", "ensurepip", "msilib", "pydoc_data"}
_LEFT_OUT |= {"site-packages", "dist-packages", "__pycache__"}


class CorpusSettings(BaseModel):
    """What a model trained from scratch reads."""

    model_config = ConfigDict(extra="forbid")

    packages: list[str] = Field(
        ["stdlib"],
        min_length=1,
        description="`stdlib`, or importable packages of the tool environment; no evaluated one",
    )
    conversations: int = Field(8000, ge=1, description="Conversations to make")
    max_characters: int = Field(250, ge=20, description="Longest function, in characters of code")
    bugs_per_function: int = Field(4, ge=1, description="Most bugs put into one function, each a conversation")
    declined: float = Field(0.0, ge=0, le=1, description="Share of answers that make no edit")
    misplaced: float = Field(0.0, ge=0, le=1, description="Share of answers that change a place that was right")
    seed: int = Field(0, ge=0, description="Order of the files and every draw")

    @model_validator(mode="after")
    def _shares(self) -> "CorpusSettings":
        if self.declined + self.misplaced > 1:
            raise ValueError("declined and misplaced together are more than 1")
        return self


def corpus(settings: CorpusSettings) -> list[list[Message]]:
    """The conversations; SwedagError if the packages have too little code for as many."""
    rows: list[list[Message]] = []
    for path, text in sources(settings):
        rows += conversations(path, text, settings)
        if len(rows) >= settings.conversations:
            return rows[: settings.conversations]
    raise SwedagError(
        f"corpus: {', '.join(settings.packages)} give only {len(rows)} conversations of {settings.conversations}; "
        "name more packages, or raise max_characters or bugs_per_function"
    )


def sources(settings: CorpusSettings) -> Iterator[tuple[str, str]]:
    """Path and text of every source file, in an order that depends on the paths and the seed alone."""
    found = {name: path for package in settings.packages for name, path in _files(package)}
    for name in sorted(found, key=lambda name: sha256(f"{settings.seed}/{name}")):
        try:
            yield name, found[name].read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def _files(package: str) -> Iterator[tuple[str, Path]]:
    if package == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SwedagError(f"corpus: no package {package!r} is installed in the tool environment")
        root = Path(next(iter(spec.submodule_search_locations)))
    for path in root.rglob("*.py"):
        inner = path.relative_to(root)
        if not _LEFT_OUT & set(inner.parts):
            yield str(inner if package == "stdlib" else package / inner), path


def conversations(path: str, text: str, settings: CorpusSettings) -> list[list[Message]]:
    """All conversations from one file, a few from each of its functions that are short enough."""
    by_function: dict[tuple[str, int, int], list[Bug]] = defaultdict(list)
    for bug in bugs_in(path, text):
        by_function[bug.function, bug.first_line, bug.last_line].append(bug)
    lines = text.split("\n")
    rows = []
    for (function, first, last), bugs in by_function.items():
        # Each function is a file of its own from here on: what is shown is the same, and short texts are fast.
        alone = "\n".join(lines[first - 1 : last])
        moved = {"first_line": 1, "last_line": last - first + 1}
        bugs = [bug.model_copy(update={**moved, "line": bug.line - first + 1}) for bug in bugs]
        if len(edits.numbered(alone, bugs[0].target)) > settings.max_characters:
            continue
        rng = random.Random(f"{settings.seed}/{path}/{function}/{first}")
        for bug in rng.sample(bugs, min(len(bugs), settings.bugs_per_function)):
            row = _conversation(alone, bug, bugs, settings, rng)
            if row is not None:
                rows.append(row)
    return rows


def _conversation(
    text: str, bug: Bug, others: list[Bug], settings: CorpusSettings, rng: random.Random
) -> list[Message] | None:
    buggy = bug.inject(text)
    repair = edits.edit_between(buggy, text, bug.target)
    if repair is None:
        return None
    module, function = Path(bug.path).stem.strip("_"), bug.function.rpartition(".")[2].strip("_")
    issue = issue_text(bug, [f"tests/test_{module}.py::test_{function}"], rng)
    asked = edits.prompt(issue, buggy, bug.target)
    draw, reply = rng.random(), repair
    if draw < settings.declined:
        reply = edits.Edit(changes=())
    elif draw < settings.declined + settings.misplaced:
        reply = _misplaced(buggy, bug, others, rng) or repair
    return [*asked, Message(role="assistant", content=edits.render(reply))]


def _misplaced(buggy: str, bug: Bug, others: list[Bug], rng: random.Random) -> edits.Edit | None:
    """An edit that fits the function and puts a second bug into another line of it."""
    elsewhere = [other for other in others if other.line != bug.line]
    if not elsewhere:
        return None
    return edits.edit_between(buggy, rng.choice(elsewhere).inject(buggy), bug.target)
