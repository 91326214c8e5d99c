"""A verifier's scores: how they fall on resolved and unresolved attempts, and whether they mean what they say.

In: attempts with scores in [0, 1]. Out: a figure of two panels, and the numbers behind it.
"""

from typing import TYPE_CHECKING, Any

from swedag.errors import SwedagError
from swedag.figures.settings import VerifierFigure
from swedag.figures.style import BLUE, INK, MUTED, ORANGE, blank
from swedag.metrics.judgement import quality
from swedag.metrics.reading import Attempt, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def verifier(settings: VerifierFigure, tables: dict[str, Table]) -> tuple["Figure", dict[str, Any]]:
    """The figure and what `metrics.judgement.quality` says of all sets together."""
    attempts = [attempt for name in settings.sets for attempt in _scored(tables[name])]
    found = quality(attempts, settings.bins)
    figure, (left, right) = blank(7.2, 3.4, 2)
    _histogram(left, attempts, settings.bins)
    _reliability(right, found)
    return figure, found


def _scored(table: Table) -> list[Attempt]:
    if not table.scored:
        raise SwedagError(f"{table.path}: no score column; name sets in the verifier's `scores`")
    beyond = [a for a in table.attempts if a.score is not None and not 0 <= a.score <= 1]
    if beyond:
        raise SwedagError(f"{table.path}: score {beyond[0].score} of {beyond[0].instance_id} is not between 0 and 1")
    return table.attempts


def _histogram(axes: "Axes", attempts: list[Attempt], bins: int) -> None:
    edges = [index / bins for index in range(bins + 1)]
    for resolved, name, colour, hatch in ((False, "unresolved", ORANGE, "////"), (True, "resolved", BLUE, "")):
        scores = [a.score for a in attempts if a.score is not None and a.resolved is resolved]
        if not scores:
            continue
        weights = [1 / len(scores)] * len(scores)
        axes.hist(
            scores, edges, weights=weights, color=colour, alpha=0.45, hatch=hatch, edgecolor="white", linewidth=0.4
        )
        axes.hist(
            scores,
            edges,
            weights=weights,
            histtype="step",
            color=colour,
            linewidth=1.6,
            label=f"{name}, n = {len(scores)}",
        )
    axes.set_title("share of attempts by score")
    axes.set_xlabel("verifier's score")
    axes.set_xlim(0, 1)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.22)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1])
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0, bbox_to_anchor=(-0.02, 1.02))


def _reliability(axes: "Axes", found: dict[str, Any]) -> None:
    rows = [row for row in found["reliability"] if row["n"]]
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    axes.plot([row["mean_score"] for row in rows], [row["resolved"] for row in rows], color=BLUE, linewidth=1.2)
    most = max((row["n"] for row in rows), default=1)
    for row in rows:
        size = 20 + 130 * row["n"] / most
        axes.scatter(row["mean_score"], row["resolved"], s=size, color=BLUE, edgecolor="white", zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_title("share resolved by score (area: attempts)")
    axes.set_xlabel("verifier's score")
    numbers = [("AUC", found["auc"]), ("AUC within instances", found["auc_within_instances"]), ("ECE", found["ece"])]
    text = "\n".join(f"{name} {value:.2f}" for name, value in numbers if value is not None)
    # In the corner that the points leave free.
    modest = sum(row["n"] * (row["resolved"] - row["mean_score"]) for row in rows) > 0
    x, y, across, along = (0.97, 0.04, "right", "bottom") if modest else (0.03, 0.98, "left", "top")
    axes.text(x, y, text, transform=axes.transAxes, ha=across, va=along, color=INK, linespacing=1.5)
