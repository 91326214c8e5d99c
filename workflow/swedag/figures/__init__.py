"""Figures: one of the config's figures as SVG and PNG, in the house style, the paper's values beside ours.

In: what the figure's kind needs (attempts or checkpoints; tables of config/reference). Out: two files, and for a
verifier the numbers behind its figure as JSON, where asked for.
"""

import textwrap
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from swedag.artifacts import write_json
from swedag.errors import SwedagError
from swedag.figures.iterations import iterations
from swedag.figures.scaling import scaling
from swedag.figures.settings import (
    FigureSettings,
    IterationsFigure,
    ScalingFigure,
    SuccessesFigure,
    TrainingFigure,
    policies_of,
    references_of,
    sets_of,
)
from swedag.figures.style import STYLE, save
from swedag.figures.successes import ranked
from swedag.figures.training import training
from swedag.figures.verifier import verifier
from swedag.metrics.reading import read_attempts
from swedag.reference import open_reference

CHARACTERS_PER_INCH = 10  # of a caption

__all__ = ["FigureSettings", "main", "policies_of", "references_of", "sets_of"]


def main(
    settings: Annotated[str, typer.Option(help="One of the config's figures, as JSON")],
    svg: Annotated[Path, typer.Option(help="The figure (.svg)")],
    png: Annotated[Path, typer.Option(help="The figure (.png)")],
    attempts: Annotated[list[Path] | None, typer.Option(help="attempts/<set>.csv of the figure's sets")] = None,
    checkpoints: Annotated[list[Path] | None, typer.Option(help="checkpoints/<policy>")] = None,
    references: Annotated[list[Path] | None, typer.Option(help="Tables of config/reference")] = None,
    quality: Annotated[Path | None, typer.Option(help="AUC, ECE and bins of a verifier's figure (.json)")] = None,
) -> None:
    """Draw one figure as SVG and PNG. Equal inputs give equal bytes."""
    import matplotlib

    chosen: FigureSettings = TypeAdapter(FigureSettings).validate_json(settings)
    tables = {path.stem: read_attempts(path) for path in attempts or []}
    folders = {path.name: path for path in checkpoints or []}
    _need("--attempts", sets_of(chosen), list(tables))
    _need("--checkpoints", policies_of(chosen), list(folders))
    with matplotlib.rc_context(STYLE):
        if isinstance(chosen, IterationsFigure):
            figure = iterations(chosen, tables, open_reference(chosen.reference, references or []))
        elif isinstance(chosen, ScalingFigure):
            figure = scaling(chosen, tables, open_reference(chosen.reference, references or []))
        elif isinstance(chosen, SuccessesFigure):
            figure = ranked(chosen, tables, open_reference(chosen.reference, references or []))
        elif isinstance(chosen, TrainingFigure):
            figure = training(chosen, folders)
        else:
            figure, numbers = verifier(chosen, tables)
            if quality:
                write_json(quality, numbers)
        if chosen.caption:
            caption = textwrap.fill(
                chosen.caption, int(CHARACTERS_PER_INCH * figure.get_figwidth()), break_on_hyphens=False
            )
            figure.suptitle(caption, x=0.01, ha="left", weight="bold", size=10.5)
        save(figure, svg, png)


def _need(option: str, wanted: list[str], given: list[str]) -> None:
    absent = [name for name in wanted if name not in given]
    if absent:
        raise SwedagError(f"{option}: no file for {', '.join(absent)}; files are named after what they hold")
