"""Pass@k and Best@k by the number of attempts, with their bands and the paper's curves.

In: attempts by set. Out: a figure; a set is a colour and a marker, Pass@k a full line, Best@k a dashed one, and the
paper's curve of the same a thin dotted one with open markers. Curves are named at their right ends.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swedag.figures.settings import ScalingFigure
from swedag.figures.style import INK, SERIES, blank, percent_axis
from swedag.metrics.curves import curve, parse_ks
from swedag.metrics.reading import Table
from swedag.reference import ReferenceTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"pass": ("Pass@k", "-"), "best": ("Best@k", "--")}
# A single set has a marker for each kind.
MARKERS = {"pass": "o", "best": "s"}
GAP = 0.062


@dataclass(frozen=True)
class _Curve:
    """Rates by k, ours or the paper's; the paper's has no ends of intervals."""

    name: str
    kind: str
    colour: Any
    marker: str
    ks: list[int]
    rates: list[float]
    low: list[float]
    high: list[float]
    theirs: bool = False


def scaling(settings: ScalingFigure, tables: dict[str, Table], reference: ReferenceTable | None) -> "Figure":
    """`tables` by set, in the order of the settings. Of sets that differ in scores alone, Pass@k is drawn once."""
    figure, (axes,) = blank(6.2 if len(settings.sets) == 1 else 7.6, 3.8)
    ks = parse_ks(settings.k)
    curves = [*_ours(settings, tables, ks), *_theirs(settings, reference, ks)]
    faint = 0.5 if len(settings.sets) > 2 else 1.0
    for one in curves:
        _draw(axes, one, faint)
    top = max(max(one.high or one.rates) for one in curves)
    percent_axis(axes, "% of instances resolved, with 95 % band over instances", top)
    axes.set_xlabel("attempts per instance, k")
    axes.set_xticks(ks if len(ks) <= 16 else ks[:: len(ks) // 8])
    _name(axes, ks[-1], curves)
    return figure


def _ours(settings: ScalingFigure, tables: dict[str, Table], ks: list[int]) -> list[_Curve]:
    found: list[_Curve] = []
    sampled: set[str] = set()
    for position, (label, name) in enumerate(settings.named()):
        points = curve(tables[name], ks, missing=settings.missing, seed=settings.seed)
        rollouts = name.split("@")[0]
        shared = sum(other.split("@")[0] == rollouts for other in settings.sets) > 1
        for kind in KINDS:
            if points[0][f"{kind}_at_k"] is None or (kind == "pass" and rollouts in sampled):
                continue
            rates, low, high = (
                [float(point[f"{kind}_{end}"] or 0) for point in points] for end in ("at_k", "low", "high")
            )
            named = "" if len(settings.sets) == 1 else rollouts if shared and kind == "pass" else label
            colour, _, marker = SERIES[position % len(SERIES)]
            marker = MARKERS[kind] if len(settings.sets) == 1 else marker
            found.append(_Curve(named, kind, colour, marker, ks, rates, low, high))
        sampled.add(rollouts)
    return found


def _theirs(settings: ScalingFigure, table: ReferenceTable | None, ks: list[int]) -> list[_Curve]:
    if table is None or settings.reference is None:
        return []
    found: list[_Curve] = []
    for position in range(len(settings.sets) if settings.reference.rows else 1):
        selection = settings.reference.selection(position)
        label = settings.named()[position][0] if settings.reference.rows else ""
        colour, _, marker = SERIES[position % len(SERIES)]
        for ours, column in settings.reference.columns.items():
            kind = "pass" if ours.startswith("pass") else "best"
            known = [
                (k, table.cells(selection | {"k": str(k)}, column)) for k in ks if table.has(selection | {"k": str(k)})
            ]
            points = {k: value / 100 for k, value in known if value is not None}
            again = any(list(points.values()) == one.rates for one in found)
            if points and not again:
                shape = MARKERS[kind] if len(settings.sets) == 1 else marker
                name = ", ".join(part for part in (settings.reference.label, label) if part)
                found.append(_Curve(name, kind, colour, shape, [*points], [*points.values()], [], [], theirs=True))
    return found


def _draw(axes: "Axes", one: _Curve, faint: float) -> None:
    _, style = KINDS[one.kind]
    size = 5.5 if len(one.ks) <= 16 else 4
    every = max(1, len(one.ks) // 16)
    if one.theirs:
        look: dict[str, Any] = {"linestyle": ":", "linewidth": 1.1, "markerfacecolor": "white", "zorder": 1.9}
        size -= 1.5
    else:
        look = {"linestyle": style}
        alpha = faint * (0.13 if one.kind == "pass" else 0.2)
        axes.fill_between(one.ks, one.low, one.high, color=one.colour, alpha=alpha, linewidth=0)
    axes.plot(one.ks, one.rates, color=one.colour, marker=one.marker, markersize=size, markevery=every, **look)


def _name(axes: "Axes", last: int, curves: list[_Curve]) -> None:
    """Names at the right ends of the curves, pushed apart where they would overlap, and back below the top."""
    low, high = axes.get_ylim()
    ordered = sorted(curves, key=lambda one: one.rates[-1])
    places: list[float] = []
    for one in ordered:
        wanted = (one.rates[-1] - low) / (high - low)
        places.append(max(wanted, places[-1] + GAP) if places else wanted)
    for index in reversed(range(len(places))):
        places[index] = min(places[index], 1 - GAP * (len(places) - 1 - index))
    for one, place in zip(ordered, places, strict=True):
        title = KINDS[one.kind][0]
        axes.annotate(
            f"{one.name}: {title} {100 * one.rates[-1]:.1f}" if one.name else f"{title} {100 * one.rates[-1]:.1f}",
            (one.ks[-1] if one.theirs else last, one.rates[-1]),
            (1.05, place),
            textcoords="axes fraction",
            va="center",
            color=INK if one.theirs else one.colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": one.colour, "linewidth": 0.6, "shrinkB": 4, "relpos": (0, 0.5)},
        )
