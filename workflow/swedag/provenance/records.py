"""Who made a file, of what: Snakemake's own records joined with hashes of the files as they lie there now.

In: `.snakemake/metadata` of a working directory. Out: a `Node` per file, its inputs' nodes below it. `sha256` is of the
content alone; `lineage` also covers rule, params and all that is upstream: one changed byte changes it all the way up.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from swedag.artifacts import sha256, sha256_file
from swedag.errors import SwedagError

CODE = "workflow/"


class Record(BaseModel):
    """What Snakemake keeps of the job that made a file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rule: str | None = None
    input: list[str] | None = None
    params: list[str] | None = None
    log: list[str] | None = None
    shellcmd: str | None = None
    container_img_url: str | None = None
    starttime: float | None = None
    endtime: float | None = None
    incomplete: bool | None = None
    input_checksums: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Node:
    """A file, or a folder that a rule made whole. `sha256` is None when it is gone; `record` when no rule made it."""

    path: str
    sha256: str | None
    lineage: str
    record: Record | None
    inputs: list["Node"] = field(default_factory=list)
    changed: tuple[str, ...] = ()


def read_records(root: Path) -> dict[str, Record]:
    """Records by output path, relative to `root` as the rules name them; none where Snakemake has not run."""
    folder = root / ".snakemake" / "metadata"
    records = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if not path.is_file():
            continue
        # Long names are split over folders that begin with @.
        encoded = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
        try:
            records[base64.b64decode(encoded, b"-_", validate=True).decode()] = Record.model_validate_json(
                path.read_text()
            )
        except (binascii.Error, UnicodeDecodeError, ValidationError) as error:
            raise SwedagError(f"{path}: not a record of Snakemake 9: {error}") from error
    return records


def digest(path: Path) -> str | None:
    """sha256 of a file, or of a folder's sorted names and hashes; None where there is nothing."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != ".snakemake_timestamp")
        return sha256("".join(f"{sha256_file(file)}  {file.relative_to(path)}\n" for file in files))
    return sha256_file(path) if path.is_file() else None


class Lineage:
    """Nodes of the files below `root`, each hashed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = read_records(root)
        self._nodes: dict[str, Node] = {}

    def made(self, path: str) -> str:
        """The output that `path` belongs to: itself, or the folder around it that a rule made."""
        candidates = [path, *map(str, PurePosixPath(path).parents)]
        return next((name for name in candidates if name in self.records), path)

    def node(self, path: str) -> Node:
        """The node of `path`, with all that is upstream of it."""
        waiting = [self.made(path)]
        while waiting:
            name = waiting[-1]
            inputs = self._inputs(name)
            missing = [other for other in inputs if other not in self._nodes]
            if missing:
                waiting += missing
            else:
                self._nodes[name] = self._build(name, inputs)
                waiting.pop()
        return self._nodes[self.made(path)]

    def _inputs(self, name: str) -> list[str]:
        record = self.records.get(name)
        found = {self.made(other) for other in (record.input or [] if record else [])}
        return sorted(found - {name})

    def _build(self, name: str, inputs: list[str]) -> Node:
        record, content = self.records.get(name), digest(self.root / name)
        below = [self._nodes[other] for other in inputs]
        made_by = [record.rule, record.params] if record else []
        lineage = sha256(json.dumps([content, made_by, [[node.path, node.lineage] for node in below]]))
        before = (record.input_checksums or {}) if record else {}
        changed = tuple(n.path for n in below if n.sha256 and before.get(n.path) not in (None, f"sha256:{n.sha256}"))
        return Node(name, content, lineage, record, below, changed)


def upstream(nodes: Iterable[Node]) -> dict[str, Node]:
    """All nodes at and above `nodes`, by path, sorted."""
    seen: dict[str, Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.path not in seen:
            seen[node.path] = node
            waiting += node.inputs
    return dict(sorted(seen.items()))
