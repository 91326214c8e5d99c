"""Tables: one of the config's tables as tidy CSV, Markdown and LaTeX, with the paper's values beside ours.

In: what the table's kind needs (attempts, data cards or instances; tables of config/reference). Out: three files.
"""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from swedag.artifacts import write_text
from swedag.errors import SwedagError
from swedag.instances import read_instances
from swedag.metrics.reading import read_attempts
from swedag.reference import open_reference
from swedag.tables.document import Document
from swedag.tables.iterations import iterations
from swedag.tables.scaling import scaling
from swedag.tables.settings import (
    DatasetsTable,
    IterationsTable,
    LengthsTable,
    RepositoriesTable,
    ScalingTable,
    SetsTable,
    SourcesTable,
    SuccessesTable,
    TableSettings,
    cards_of,
    code_of,
    datasets_of,
    references_of,
    sets_of,
)
from swedag.tables.statistics import overview, repositories, statistics
from swedag.tables.successes import ranked
from swedag.tables.training_sets import lengths, read_cards, sources, training_sets

__all__ = ["TableSettings", "cards_of", "code_of", "datasets_of", "main", "make", "references_of", "sets_of"]


def make(
    settings: TableSettings,
    attempts: list[Path],
    cards: list[Path],
    instances: list[Path],
    references: list[Path],
    images: Path | None = None,
) -> Document:
    """The table that `settings` describes, from files that are named after what they hold."""
    _need("--attempts", sets_of(settings), [path.stem for path in attempts])
    _need("--cards", cards_of(settings), [path.name.removesuffix(".card.json") for path in cards])
    _need("--instances", datasets_of(settings), [path.stem for path in instances])
    if isinstance(settings, SetsTable):
        return training_sets(settings, read_cards(cards))
    reference = open_reference(settings.reference, references)
    if isinstance(settings, SourcesTable):
        return sources(settings, read_cards(cards), reference)
    if isinstance(settings, LengthsTable):
        return lengths(settings, read_cards(cards), reference)
    if isinstance(settings, IterationsTable):
        return iterations(settings, {path.stem: read_attempts(path) for path in attempts}, reference)
    if isinstance(settings, SuccessesTable):
        return ranked(settings, {path.stem: read_attempts(path) for path in attempts}, reference)
    if isinstance(settings, ScalingTable):
        return scaling(settings, {path.stem: read_attempts(path) for path in attempts}, reference)
    datasets = {path.stem: list(read_instances(path).values()) for path in instances}
    if isinstance(settings, DatasetsTable):
        return overview(settings, datasets, reference)
    if isinstance(settings, RepositoriesTable):
        return repositories(settings, datasets, reference)
    return statistics(settings, datasets, reference, images)


def _need(option: str, wanted: list[str], given: list[str]) -> None:
    absent = [name for name in wanted if name not in given]
    if absent:
        raise SwedagError(f"{option}: no file for {', '.join(absent)}; files are named after what they hold")


def main(
    settings: Annotated[str, typer.Option(help="One of the config's tables, as JSON")],
    csv: Annotated[Path, typer.Option(help="Tidy rows (.csv)")],
    markdown: Annotated[Path, typer.Option(help="For reading (.md)")],
    latex: Annotated[Path, typer.Option(help="For papers (.tex, booktabs)")],
    attempts: Annotated[list[Path] | None, typer.Option(help="attempts/<set>.csv of the table's sets")] = None,
    cards: Annotated[list[Path] | None, typer.Option(help="sft/<training set>.card.json")] = None,
    instances: Annotated[list[Path] | None, typer.Option(help="instances/<dataset>.jsonl")] = None,
    references: Annotated[list[Path] | None, typer.Option(help="Tables of config/reference")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to look into layers and mirrors")] = None,
) -> None:
    """Write one table as CSV, Markdown and LaTeX. Equal inputs give equal bytes."""
    chosen: TableSettings = TypeAdapter(TableSettings).validate_json(settings)
    table = make(chosen, attempts or [], cards or [], instances or [], references or [], images)
    write_text(csv, table.csv())
    write_text(markdown, table.markdown())
    write_text(latex, table.latex())
