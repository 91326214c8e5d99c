"""The DAG of a run as an inline SVG: one box per named thing, what it holds, and an arrow to what was made of it.

In: Snakemake's records (outputs and inputs of jobs), reduced to datasets, images, models, rollout sets, training sets,
policies, verifiers and results. Out: boxes with coordinates, for the template. Arrows that others imply are left out.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath

WIDTH, HEIGHT, GAP, DROP = 178, 46, 22, 40
Key = tuple[str, str]
Graph = dict[Key, set[Key]]


@dataclass
class Box:
    """A box (`key`), or a bend of an arrow that passes a layer (no key). x is its centre, y its top, in pixels."""

    key: Key | None
    layer: int
    x: float = 0.0
    above: list["Box"] = field(default_factory=list)
    below: list["Box"] = field(default_factory=list)

    @property
    def y(self) -> float:
        return self.layer * (HEIGHT + DROP)

    @property
    def width(self) -> int:
        return WIDTH if self.key else 10


def thing(path: str, run: str) -> Key | None:
    """What a path below results/ belongs to, as (kind, name); None for code, references and other runs."""
    parts = PurePosixPath(path).parts
    if parts[:2] == ("results", "images") and len(parts) > 3:
        return ("environment", "environment images")
    if parts[:2] == ("results", "models") and len(parts) > 2:
        return ("model", parts[2])
    if parts[:2] != ("results", run) or len(parts) < 4:
        return None
    name = parts[3].split(".")[0]
    kinds = {
        "instances": ("dataset", name),
        "images": ("images", "instance images"),
        "rollouts": ("rollouts", parts[3]),
        "grades": ("rollouts", parts[3]),
        "sft": ("training set", name),
        "checkpoints": ("policy", parts[3]),
        "verifiers": ("verifier", parts[3]),
        "scores": ("scores", " on ".join(parts[3:5])),
    }
    results = ("attempts", "tables", "figures")
    return kinds.get(parts[2]) or (("results", "tables and figures") if parts[2] in results else None)


def graph(made_of: dict[str, list[str]], run: str) -> Graph:
    """Things and the things they were made of; `made_of` maps every output to its inputs."""
    found: Graph = defaultdict(set)
    for output, inputs in made_of.items():
        key = thing(output, run)
        if key:
            found[key] |= {other for path in inputs if (other := thing(path, run)) and other != key}
    for other in {other for sources in found.values() for other in sources}:
        found.setdefault(other, set())
    reached = _connected(found)
    return {key: sources for key, sources in found.items() if key in reached}


def _connected(found: Graph) -> set[Key]:
    """Things that the results were made of; all of them, where there are no results yet."""
    waiting = [key for key in found if key[0] == "results"] or list(found)
    seen: set[Key] = set()
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += found[key]
    return seen


def reduced(found: Graph) -> Graph:
    """The same without arrows that a longer way implies."""
    upstream: Graph = {}

    def above(key: Key) -> set[Key]:
        if key not in upstream:
            upstream[key] = set()  # a cycle cannot come from Snakemake; from elsewhere it must not loop for ever
            upstream[key] = set(found[key]).union(*(above(source) for source in found[key]))
        return upstream[key]

    return {
        key: {source for source in sources if not any(source in above(other) for other in sources - {source})}
        for key, sources in found.items()
    }


def layout(found: Graph) -> tuple[list[Box], float, float]:
    """Boxes and bends in layers from top to bottom, with the width and height of the picture."""
    layers = _layers(reduced(found))
    for sweep in range(8):
        _sort(layers if sweep % 2 == 0 else layers[::-1], up=sweep % 2 == 0)
    for layer in layers:
        _spread(layer, [(i - (len(layer) - 1) / 2) * (WIDTH + GAP) for i in range(len(layer))])
    for _ in range(80):
        for layer in layers:
            _spread(layer, [_middle(box) for box in layer])
    boxes = [box for layer in layers for box in layer]
    left = min((box.x - box.width / 2 for box in boxes), default=0)
    for box in boxes:
        box.x -= left
    width = max((box.x + box.width / 2 for box in boxes), default=0)
    return boxes, width, len(layers) * (HEIGHT + DROP) - DROP


def _layers(found: Graph) -> list[list[Box]]:
    depth: dict[Key, int] = {}

    def deep(key: Key) -> int:
        if key not in depth:
            depth[key] = 0
            depth[key] = 1 + max((deep(source) for source in found[key]), default=-1)
        return depth[key]

    boxes = {key: Box(key, deep(key)) for key in sorted(found)}
    layers: list[list[Box]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in boxes.values():
        layers[box.layer].append(box)
    for key, sources in sorted(found.items()):
        for source in sorted(sources):
            upper = boxes[source]
            for level in range(upper.layer + 1, boxes[key].layer):
                bend = Box(None, level)
                layers[level].append(bend)
                _join(upper, bend)
                upper = bend
            _join(upper, boxes[key])
    return layers


def _join(upper: Box, lower: Box) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _sort(layers: list[list[Box]], *, up: bool) -> None:
    """Order each layer by the mean place of its neighbours in the layer before, which keeps arrows from crossing."""
    places: dict[int, float] = {}
    for layer in layers:
        wanted = {}
        for place, box in enumerate(layer):
            near = [places[id(other)] for other in (box.above if up else box.below)]
            wanted[id(box)] = sum(near) / len(near) if near else float(place)
        layer.sort(key=lambda box: wanted[id(box)])
        places |= {id(box): float(place) for place, box in enumerate(layer)}


def _middle(box: Box) -> float:
    near = [other.x for other in [*box.above, *box.below]]
    return sum(near) / len(near) if near else box.x


def _spread(layer: list[Box], wanted: list[float]) -> None:
    """Put boxes near their wanted places, in order, without overlaps."""
    placed: list[float] = []
    for box, place in zip(layer, wanted, strict=True):
        free = placed[-1] + (layer[len(placed) - 1].width + box.width) / 2 + GAP if placed else place
        placed.append(max(place, free))
    shift = sum(a - b for a, b in zip(wanted, placed, strict=True)) / len(layer)
    for box, place in zip(layer, placed, strict=True):
        box.x = place + shift


def arrows(boxes: list[Box]) -> list[str]:
    """SVG path data from each box to each below it, smooth through the bends."""
    return [_curve(_points(box, lower)) for box in boxes if box.key for lower in box.below]


def _points(upper: Box, lower: Box) -> list[tuple[float, float, float]]:
    """(x, y, dx/dy) along an arrow; it passes a layer nearly straight, between the boxes, and swings in the gaps."""
    points = [(upper.x, upper.y + HEIGHT, 0.0)]
    before, box = upper, lower
    while not box.key:
        after = box.below[0]
        turns = (before.x - box.x) * (after.x - box.x) >= 0
        slope = 0.0 if turns else max(-0.6, min(0.6, (after.x - before.x) / (2 * (HEIGHT + DROP))))
        points.append((box.x - slope * HEIGHT / 2, box.y, slope))
        points.append((box.x + slope * HEIGHT / 2, box.y + HEIGHT, slope))
        before, box = box, after
    return [*points, (box.x, box.y - 5, 0.0)]


def _curve(points: list[tuple[float, float, float]]) -> str:
    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    for (x, y, slope), (to_x, to_y, to_slope) in pairwise(points):
        part = (to_y - y) / 2
        leave, arrive = (x + slope * part, y + part), (to_x - to_slope * part, to_y - part)
        path += "C" + " ".join(f"{a:.0f} {b:.0f}" for a, b in (leave, arrive, (to_x, to_y)))
    return path
