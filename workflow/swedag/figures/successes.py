"""How often each instance was resolved, most often first, with the paper's counts beside ours (its Figure 3).

In: attempts by set. Out: a figure with a line of steps for each set; instances never resolved are not drawn.
"""

from typing import TYPE_CHECKING

from swedag.figures.settings import SuccessesFigure
from swedag.figures.style import INK, MUTED, SERIES, blank
from swedag.metrics.reading import Table
from swedag.metrics.successes import successes
from swedag.reference import ReferenceTable, ranked_successes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ranked(settings: SuccessesFigure, tables: dict[str, Table], reference: ReferenceTable | None) -> "Figure":
    """`tables` by set, drawn in the order of the settings."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = blank(6.2, 3.4)
    most = 1
    for position, (label, name) in enumerate(settings.named()):
        counts = [n for _, n in successes(tables[name])]
        colour = SERIES[position % len(SERIES)][0]
        named = f"{label}: {len(counts)} of {len(tables[name].instances)} instances, {sum(counts)} rollouts"
        places = range(1, len(counts) + 1)
        axes.bar(places, counts, width=0.86, color=colour, alpha=1 / len(settings.sets), label=named)
        theirs = ranked_successes(settings.reference, reference, position)
        if theirs:
            named = settings.reference.label if settings.reference else ""
            told = f"{named}: {len(theirs)} instances, {sum(theirs):.0f} rollouts"
            edges = [place + 0.5 for place in range(len(theirs) + 1)]
            halo = [withStroke(linewidth=3, foreground="white")]
            axes.stairs(theirs, edges, color=INK, linewidth=1.3, label=told, path_effects=halo)
        most = max(most, *counts, *map(int, theirs))
    axes.set_title("resolved attempts of an instance")
    axes.set_xlabel("instances resolved at all, those most often first", color=MUTED)
    axes.set_ylim(0, most * 1.08)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    axes.legend(loc="upper right")
    return figure
