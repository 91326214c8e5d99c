"""What a run cost: time by step and bytes from Snakemake's records of its jobs, tokens from the attempts.

In: a folder of benchmarks (TSV or JSONL) that mirrors results/, outputs that Snakemake has records of, attempts tables.
Out: sums by step, those that took longest first, and by rollout set. GPU time is wall time by the GPUs that Snakemake
gave a job (its resource `gpu`), which stand in benchmarks made with `benchmark-extended`, as both profiles do.
"""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from swedag.metrics.reading import Table

NAMES = {
    "images/os": "base system image",
    "images/envs": "environment images",
    "images/instances": "instance images",
    "images/sources": "sources and wheels",
    "images/mirrors": "mirrors of repositories",
    "images/gates": "gates of the images",
    "datasets": "published rows",
    "models": "base models",
    "instances": "instances",
    "imports": "published rollouts",
    "rollouts": "rollouts",
    "grades": "grading",
    "attempts": "attempts tables",
    "sft": "training sets",
    "checkpoints": "training policies",
    "verifiers": "training verifiers",
    "scores": "scoring",
    "tables": "tables",
    "figures": "figures",
}


UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass
class Step:
    """Sums over the jobs of a step: seconds and bytes; `peak` is the largest resident memory of one job in MiB."""

    name: str
    jobs: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    gpu: float = 0.0
    peak: float = 0.0
    bytes: int = 0


@dataclass(frozen=True)
class Tokens:
    """What the model of a rollout set read and wrote over all attempts, prompts at every call, and what that cost."""

    name: str
    attempts: int
    resolved: int
    calls: int
    prompt: int
    completion: int
    dollars: float = 0.0


def steps(folders: list[Path], run: str, outputs: Iterable[str] = (), root: Path = Path()) -> list[Step]:
    """Steps of the run and of what runs share (images, models); other runs' are passed over."""
    found: dict[str, Step] = {}
    for folder in folders:
        for path in sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.tsv"), *folder.rglob("*.txt")]):
            step = _step(found, path.relative_to(folder).parts, run)
            if step is None:
                continue
            for row in _rows(path):
                wall = _number(row.get("s"))
                step.jobs += 1
                step.wall += wall
                step.cpu += _number(row.get("cpu_time"))
                step.gpu += wall * _gpus(row)
                step.peak = max(step.peak, _number(row.get("max_rss")))
    for output in outputs:
        step = _step(found, PurePosixPath(output).parts[1:], run) if output.startswith("results/") else None
        if step:
            step.bytes += _size(root / output)
    return sorted(found.values(), key=lambda step: (-step.wall, -step.bytes))


def _step(found: dict[str, Step], parts: tuple[str, ...], run: str) -> Step | None:
    key = step_of(parts, run)
    return found.setdefault(key, Step(NAMES[key])) if key in NAMES else None


def step_of(parts: tuple[str, ...], run: str) -> str:
    """The step of a path below benchmarks/ or results/; none of `NAMES` for another run's, or the report itself."""
    if len(parts) < 2:
        return ""
    if parts[:2] == (run, "images"):
        return "images/gates" if parts[-1].endswith(".gates.jsonl") else "images/instances"
    shared = {"images": "/".join(parts[:2]), "models": "models", "datasets": "datasets"}
    return shared.get(parts[0], parts[1] if parts[0] == run else "")


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; of records of images, those of the images."""
    if path.name.endswith(".images.jsonl") and path.is_file():
        return sum(int(row["bytes"]) for row in _rows(path))
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def tokens(name: str, table: Table, dollars: float = 0.0) -> Tokens:
    attempts = table.attempts
    return Tokens(
        name,
        len(attempts),
        sum(attempt.resolved is True for attempt in attempts),
        int(sum(attempt.turns or 0 for attempt in attempts)),
        int(sum(attempt.prompt_tokens or 0 for attempt in attempts)),
        int(sum(attempt.completion_tokens or 0 for attempt in attempts)),
        dollars,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def _gpus(row: dict[str, Any]) -> float:
    resources = row.get("resources")
    return _number(resources.get("gpu")) if isinstance(resources, dict) else 0.0


def _number(value: Any) -> float:
    """Snakemake writes NA, - or null where it could not measure."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def human(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{minutes} min"


def human_bytes(size: float) -> str:
    unit, divisor = next((one for one in UNITS if size >= one[1]), UNITS[-1])
    return f"{size / divisor:,.1f} {unit}"
