"""Resolve rate of each policy with its interval, and beside it what became of every attempt.

In: attempts by set. Out: a figure of two panels; the right one sets failures of the model apart.
"""

import math
from typing import TYPE_CHECKING, Any

from swedag.figures.settings import IterationsFigure
from swedag.figures.style import BLUE, INK, MUTED, ORANGE, RULE, blank, percent_axis
from swedag.metrics.curves import counted, curve
from swedag.metrics.reading import Attempt, Table
from swedag.reference import ReferenceTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Share of attempts: name, outcomes, colour, hatch. Lightness falls from resolved to no verdict and hatches differ.
TIERS = [
    ("resolved", ("resolved",), BLUE, ""),
    ("wrong patch", ("unresolved", "patch_failed", "timeout", "tampered"), ORANGE, ""),
    ("empty patch", ("empty_patch",), "#f3c998", "////"),
    ("no verdict", ("environment_failure", "infrastructure_failure"), "white", "xxxx"),
]


# With more sets than this, their sizes do not stand below each.
CROWDED = 4


def iterations(settings: IterationsFigure, tables: dict[str, Table], reference: ReferenceTable | None) -> "Figure":
    """`tables` by set, drawn in the order of the settings."""
    width = 7.2 if len(settings.sets) <= CROWDED else 9.2
    figure, (left, right) = blank(width, 3.5, 2, width_ratios=[1.15, 1])
    _rates(left, settings, tables, reference)
    _shares(right, settings, tables)
    return figure


def _rates(
    axes: "Axes", settings: IterationsFigure, tables: dict[str, Table], reference: ReferenceTable | None
) -> None:
    from matplotlib.patheffects import withStroke

    points = [curve(tables[name], [1], missing=settings.missing, seed=settings.seed)[0] for name in settings.sets]
    rates, lows, highs = (
        [float(point[key] or 0) for point in points] for key in ("pass_at_k", "pass_low", "pass_high")
    )
    places = list(range(len(points)))
    for part in _blocks(settings):
        axes.plot(places[part], rates[part], color=BLUE, linewidth=1, zorder=2)
    ends = [[rate - low for rate, low in zip(rates, lows, strict=True)]]
    ends += [[high - rate for rate, high in zip(rates, highs, strict=True)]]
    axes.errorbar(
        places, rates, yerr=ends, fmt="o", color=BLUE, capsize=4, markersize=7, zorder=3, label="resolve rate"
    )
    halo = [withStroke(linewidth=3, foreground="white")]
    for place, rate in zip(places, rates, strict=True):
        # The side that the line to the next point leaves free.
        ends_block = (place + 1) % (settings.block or len(rates)) == 0
        falls = not ends_block and rates[place + 1] < rate
        offset = (8, 5 if falls else -12)
        axes.annotate(
            f"{100 * rate:.1f}",
            (place, rate),
            offset,
            textcoords="offset points",
            weight="bold",
            color=BLUE,
            path_effects=halo,
        )
    empty = [_empty(tables[name], settings) for name in settings.sets]
    if not all(map(math.isnan, empty)):
        look: dict[str, Any] = {"color": MUTED, "linestyle": ":", "marker": "s", "markerfacecolor": "white"}
        for part in _blocks(settings):
            label = "empty patches" if part.start == 0 else None
            axes.plot(places[part], empty[part], label=label, **look)
    theirs = _paper(settings, reference)
    if not all(map(math.isnan, theirs)):
        look = {"color": INK, "linestyle": "--", "linewidth": 1, "marker": "D", "markerfacecolor": "white"}
        for part in _blocks(settings):
            label = settings.reference.label if settings.reference and part.start == 0 else None
            axes.plot(places[part], theirs[part], label=label, **look)
    known = [value for value in [*highs, *empty, *theirs] if not math.isnan(value)]
    percent_axis(axes, "% of attempts, with 95 % interval over instances", max(known))
    axes.title.set_in_layout(False)
    axes.set_xlim(-0.4, len(points) - 0.4)
    labels = [label for label, _ in settings.named()]
    if len(labels) > CROWDED:
        axes.set_xlabel(" or ".join(dict.fromkeys(_size(point).replace("\n", ", ") for point in points)), fontsize=8)
    else:
        labels = [f"{label}\n{_size(point)}" for label, point in zip(labels, points, strict=True)]
    _ticks(axes, labels)
    # Its width must not squeeze the axes.
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, 1.04), ncols=2, columnspacing=1.2).set_in_layout(False)
    axes.set_ylim(0, axes.get_ylim()[1] * (1.2 if reference else 1.12))


def _ticks(axes: "Axes", labels: list[str]) -> None:
    crowded = sum(max(map(len, label.split("\n"))) for label in labels) > 40
    axes.set_xticks(range(len(labels)), labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")


def _blocks(settings: IterationsFigure) -> list[slice]:
    size = settings.block or len(settings.sets)
    return [slice(first, first + size) for first in range(0, len(settings.sets), size)]


def _size(point: dict[str, float | int | None]) -> str:
    return f"{point['n_attempts']} attempts\n{point['n_instances']} instances"


def _empty(table: Table, settings: IterationsFigure) -> float:
    attempts = [a for group in counted(table, settings.missing).values() for a in group if a.empty_patch is not None]
    return sum(a.empty_patch is True for a in attempts) / len(attempts) if attempts else math.nan


def _paper(settings: IterationsFigure, table: ReferenceTable | None) -> list[float]:
    if table is None or settings.reference is None or "resolve_rate" not in settings.reference.columns:
        return [math.nan] * len(settings.sets)
    column = settings.reference.columns["resolve_rate"]
    values = [table.cells(settings.reference.selection(position), column) for position in range(len(settings.sets))]
    return [math.nan if value is None else value / 100 for value in values]


def _shares(axes: "Axes", settings: IterationsFigure, tables: dict[str, Table]) -> None:
    base = [0.0] * len(settings.sets)
    for name, outcomes, colour, hatch in TIERS:
        shares = [_share(tables[chosen].attempts, outcomes) for chosen in settings.sets]
        edge = "white" if not hatch else MUTED
        bars = axes.bar(
            range(len(shares)), shares, bottom=base, width=0.62, color=colour, hatch=hatch, edgecolor=edge, label=name
        )
        for bar, share in zip(bars, shares, strict=True):
            if share >= 0.07:
                middle = (bar.get_x() + bar.get_width() / 2, bar.get_y() + share / 2)
                dark = colour == BLUE
                axes.annotate(
                    f"{100 * share:.0f}",
                    middle,
                    ha="center",
                    va="center",
                    color="white" if dark else INK,
                    bbox=None if not hatch else {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
                )
        base = [below + share for below, share in zip(base, shares, strict=True)]
    percent_axis(axes, "What became of every attempt, %", 0.99)
    axes.grid(False)
    axes.spines["left"].set_color(RULE)
    _ticks(axes, [label for label, _ in settings.named()])
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2, labelspacing=0.8
    )


def _share(attempts: list[Attempt], outcomes: tuple[str, ...]) -> float:
    return sum(_outcome(attempt) in outcomes for attempt in attempts) / len(attempts)


def _outcome(attempt: Attempt) -> str:
    """A table without an outcome column still tells resolved, unresolved and no verdict apart."""
    if attempt.outcome:
        return attempt.outcome
    return "infrastructure_failure" if attempt.resolved is None else "resolved" if attempt.resolved else "unresolved"
