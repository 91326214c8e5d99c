"""Where the time of a run went, from Snakemake's benchmark files.

In: a folder of benchmarks (TSV or JSONL) that mirrors results/. Out: seconds by step, largest first.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = {
    "images/os": "base system image",
    "images/envs": "environment images",
    "images/instances": "instance images",
    "images/gates": "gates of the images",
    "models": "base models",
    "instances": "synthesising instances",
    "rollouts": "rollouts",
    "grades": "grading",
    "checkpoints": "training policies",
    "verifiers": "training verifiers",
    "scores": "scoring",
    "tables": "tables",
    "figures": "figures",
}


@dataclass
class Step:
    """Sums over the jobs of a step; `peak` is the largest resident memory of one job in MiB."""

    name: str
    jobs: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0


def steps(folders: list[Path], run: str) -> list[Step]:
    """Steps of the run and of what runs share (images, models); other runs' benchmarks are passed over."""
    found: dict[str, Step] = {}
    for folder in folders:
        for path in sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.tsv"), *folder.rglob("*.txt")]):
            parts = path.relative_to(folder).parts
            if len(parts) < 2 or (parts[0] not in (run, "images", "models")):
                continue
            key = parts[1] if parts[0] == run else "/".join(parts[:2]) if parts[0] == "images" else parts[0]
            step = found.setdefault(key, Step(NAMES.get(key, key)))
            for row in _rows(path):
                step.jobs += 1
                step.wall += _number(row.get("s"))
                step.cpu += _number(row.get("cpu_time"))
                step.peak = max(step.peak, _number(row.get("max_rss")))
    return sorted(found.values(), key=lambda step: -step.wall)


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


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
