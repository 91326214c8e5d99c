"""What past runs took, by kind of work: seconds, CPU seconds and bytes per unit, from Snakemake's benchmark files.

In: benchmarks/<run>/… and the results/<run>/… that they mirror. Out: a `Past`, asked by kind of work.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from swedag.errors import SwedagError

# Work by the outcome of an image's record.
IMAGES = {"built": "layers", "converted": "pulls"}


@dataclass
class Measure:
    """Sums over jobs."""

    wall: float = 0.0
    cpu: float = 0.0
    bytes: float = 0.0
    units: int = 0


@dataclass
class Past:
    """Measures by kind of work, such as `pulls` or `rollouts of POLICY by SCAFFOLD`; `used` are those asked for."""

    measures: dict[str, Measure] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def knows(self, kind: str) -> bool:
        return kind in self.measures

    def wall(self, kind: str, otherwise: float = 0.0) -> float:
        """Wall seconds per unit, or `otherwise` where no past run did such work. So, too, the next two."""
        return self._per_unit(kind, "wall", otherwise)

    def cpu(self, kind: str, otherwise: float) -> float:
        return self._per_unit(kind, "cpu", otherwise)

    def gigabytes(self, kind: str, otherwise: float) -> float:
        known = self.measures.get(kind)
        return self._per_unit(kind, "bytes", 0.0) / 1e9 if known and known.bytes else otherwise

    def _per_unit(self, kind: str, what: str, otherwise: float) -> float:
        if kind not in self.measures:
            return otherwise
        self.used.add(kind)
        return float(getattr(self.measures[kind], what)) / self.measures[kind].units


def read_past(root: Path, runs: list[str]) -> Past:
    """What the runs took; jobs whose output is gone are passed over."""
    found: dict[str, Measure] = defaultdict(Measure)
    for run in dict.fromkeys(runs):
        folder = root / "benchmarks" / run
        for path in sorted(folder.rglob("*.jsonl")):
            kinds, size = _done(root / "results" / run, path.relative_to(folder))
            wall, cpu = _seconds(path) if kinds else (0.0, 0.0)
            for kind, units in kinds.items():
                measure, share = found[kind], units / kinds.total()
                measure.wall, measure.cpu = measure.wall + share * wall, measure.cpu + share * cpu
                measure.bytes, measure.units = measure.bytes + share * size, measure.units + units
    return Past(dict(found))


def repository(instance_id: str) -> str:
    """What an instance's tests belong to, and so how long they take: its id without the number."""
    return instance_id.rpartition("-")[0]


def _done(results: Path, place: Path) -> tuple[Counter[str], float]:
    """Units by kind of work of the job with that benchmark, and its bytes; none where its output is gone."""
    kind, output = place.parts[0], results / place
    if kind in ("checkpoints", "verifiers") and output.with_suffix("").is_dir():
        return Counter({f"training of {place.parts[1].removesuffix('.jsonl')}": 1}), 0.0
    rows = [json.loads(row) for row in output.read_text(encoding="utf-8").splitlines()] if output.is_file() else []
    if kind == "rollouts":
        return Counter(f"rollouts of {row['policy']} by {row['scaffold']}" for row in rows), _size(output)
    if kind == "images" and output.name.endswith(".images.jsonl"):
        made = Counter(IMAGES[row["outcome"]] for row in rows if row["outcome"] in IMAGES)
        return made, float(sum(row["bytes"] for row in rows))
    if kind in ("images", "grades"):
        return Counter(
            f"{'grades' if kind == 'grades' else 'gates'} of {repository(row['instance_id'])}" for row in rows
        ), 0.0
    return Counter(f"scores by {place.parts[1]}" for _ in rows) if kind == "scores" else Counter(), 0.0


def _size(path: Path) -> float:
    return float(path.stat().st_size) if path.is_file() else 0.0


def _seconds(path: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a job; Snakemake writes NA where it could not measure."""
    wall = cpu = 0.0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SwedagError(f"{path}:{number}: not a benchmark of Snakemake: {error}; delete it") from error
        wall += row["s"] if isinstance(row.get("s"), int | float) else 0.0
        cpu += row["cpu_time"] if isinstance(row.get("cpu_time"), int | float) else 0.0
    return wall, cpu
