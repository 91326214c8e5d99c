"""The report, one static folder. In: everything that a run made. Out: index.html and a page per sampled attempt.

It opens from the disk, fetches nothing and runs no script. Whatever came from a model, a repository or an issue is
escaped; characters that a page cannot or should not hold (controls, direction overrides) are shown by name.
"""

import json
import unicodedata
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag.artifacts import replacing_directory, sha256_file
from swedag.instances import Instance, read_instances
from swedag.metrics.reading import Table, read_attempts
from swedag.provenance.records import Lineage, Record
from swedag.report import cost, diagram, outcomes, results, trajectories
from swedag.report.origins import origins

TEMPLATES = Path(__file__).parent / "templates"


class ReportSettings(BaseModel):
    """What the report says beyond the run's own artifacts."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field("", description="Headline; by default the run's name")
    summary: str = Field("", description="A sentence or two below it")
    trajectories_per_set: int = Field(12, ge=0, description="Attempts per rollout set that get a page of their own")
    headline: str = Field("", description="Table whose first and last policy make the headline numbers")


def style_files() -> list[Path]:
    """Templates and style sheet, which the report's rule lists as inputs."""
    files = sorted(path for path in TEMPLATES.iterdir() if path.is_file())
    here = Path.cwd()
    return [path.relative_to(here) if path.is_relative_to(here) else path for path in files]


def main(
    run: Annotated[str, typer.Option(help="Name of the run")],
    settings: Annotated[str, typer.Option(help="ReportSettings as JSON")],
    output: Annotated[Path, typer.Option(help="The report's folder")],
    config: Annotated[list[Path] | None, typer.Option(help="Config files of the run")] = None,
    instances: Annotated[list[Path] | None, typer.Option(help="Instances (.jsonl)")] = None,
    gates: Annotated[list[Path] | None, typer.Option(help="Ledger rows (.jsonl of gates)")] = None,
    rollouts: Annotated[list[Path] | None, typer.Option(help="Rollout shards")] = None,
    grades: Annotated[list[Path] | None, typer.Option(help="Grade shards")] = None,
    scores: Annotated[list[Path] | None, typer.Option(help="Score shards")] = None,
    attempts: Annotated[list[Path] | None, typer.Option(help="Attempts tables (.csv)")] = None,
    cards: Annotated[list[Path] | None, typer.Option(help="Data cards (.card.json)")] = None,
    checkpoints: Annotated[list[Path] | None, typer.Option(help="Checkpoint folders")] = None,
    tables: Annotated[list[Path] | None, typer.Option(help="Tables (.csv; .md and .tex beside)")] = None,
    figures: Annotated[list[Path] | None, typer.Option(help="Figures (.svg; .png beside)")] = None,
    benchmarks: Annotated[list[Path] | None, typer.Option(help="Folders of Snakemake's benchmark files")] = None,
    root: Annotated[Path, typer.Option(help="Where Snakemake ran; its records give the picture of the DAG")] = Path(),
) -> None:
    """Write the report of a run: one static folder that a browser opens from the disk."""
    chosen = ReportSettings.model_validate_json(settings)
    known, datasets = _instances(instances or [])
    ledger = outcomes.ledger(gates or [])
    graded = trajectories.read_grades(grades or [])
    wanted = {name: set(trajectories.sample(of.outcomes, chosen.trajectories_per_set)) for name, of in graded.items()}
    said, dollars = trajectories.read_rollouts(rollouts or [], wanted)
    sampled = trajectories.pages(known, said, grades or [], scores or [], wanted)
    read = {path.stem: read_attempts(path) for path in attempts or []}
    sets = _sets(read, graded, ledger)
    lineage = Lineage(root)
    records = lineage.records
    steps = cost.steps(benchmarks or [], run, records, root)
    made_of = {path.stem: origins(path, lineage) for path in tables or []}
    notes = _notes(datasets, ledger, sets, cards or [], len(tables or []), len(figures or []))
    boxes, width, height = diagram.layout(diagram.graph({name: r.input or [] for name, r in records.items()}, run))
    inputs = {
        "instances": instances,
        "ledger rows of images": gates,
        "rollouts": rollouts,
        "grades": grades,
        "scores": scores,
        "attempts": attempts,
        "data cards": cards,
        "tables": tables,
        "figures": figures,
        "config": config,
    }
    page = {
        "run": run,
        "title": chosen.title or run,
        "summary": chosen.summary,
        "headline": results.headline(tables or [], chosen.headline),
        "attempts": sum(found.attempts for found in sets),
        "instances": len(known),
        "picture": {"boxes": boxes, "arrows": diagram.arrows(boxes), "width": width, "height": height, "notes": notes},
        "tables": [results.read_table(path) for path in tables or []],
        "trees": {
            name: {row: place for place, one in enumerate(of) for row in one.rows} for name, of in made_of.items()
        },
        "figures": [(path.stem, path.with_suffix(".png").is_file()) for path in figures or []],
        "sets": sets,
        "meaning": outcomes.MEANING,
        "images": outcomes.images(ledger),
        "steps": steps,
        "totals": {what: sum(getattr(step, what) for step in steps) for what in ("wall", "cpu", "gpu", "bytes")},
        "tokens": [cost.tokens(name, table, dollars.get(name, 0)) for name, table in read.items() if "@" not in name],
        "sampled": sampled,
        "inputs": {kind: _hashed(paths or [], records) for kind, paths in inputs.items() if paths},
        "configs": [(path.name, path.read_text(encoding="utf-8")) for path in config or []],
        "policies": [path.name for path in checkpoints or []],
    }
    with replacing_directory(output) as folder:
        results.copy(tables or [], folder / "tables")
        results.copy(figures or [], folder / "figures")
        environment = templates()
        (folder / "style.css").write_text((TEMPLATES / "style.css").read_text(encoding="utf-8"), encoding="utf-8")
        _write(environment, "index.html", folder / "index.html", page)
        for name, found in made_of.items():
            if found:
                values = {"run": run, "table": name, "origins": found}
                _write(environment, "lineage.html", folder / f"lineage/{name}.html", values)
        for of_set in sampled.values():
            for number, one in enumerate(of_set):
                before = of_set[number - 1] if number else None
                after = of_set[number + 1] if number + 1 < len(of_set) else None
                shown = {
                    "page": one,
                    "before": before,
                    "after": after,
                    "run": run,
                    "here": f"{number + 1}/{len(of_set)}",
                }
                _write(environment, "trajectory.html", folder / one.file, shown)


def templates() -> Any:
    """The Jinja environment: everything is escaped, and cleaned by `visible` on its way into a page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"human": cost.human, "human_bytes": cost.human_bytes, "short": trajectories.shortened}
    environment.globals |= {"tier": outcomes.tier, "node_height": diagram.HEIGHT, "node_width": diagram.WIDTH}
    return environment


def visible(text: str) -> str:
    """`text` with what a page must not hold named instead: controls, direction overrides, lone surrogates."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else _named(character)
        for character in text.replace("\r\n", "\n")
    )


def _named(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def _write(environment: Any, template: str, path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(template).render(values), encoding="utf-8")


def _instances(paths: list[Path]) -> tuple[dict[str, Instance], dict[str, int]]:
    """All instances by id, and how many each dataset has."""
    known: dict[str, Instance] = {}
    sizes = {}
    for path in paths:
        rows = read_instances(path)
        known |= rows
        sizes[path.stem] = len(rows)
    return known, sizes


def _sets(
    attempts: dict[str, Table], graded: dict[str, trajectories.Graded], ledger: list[dict[str, Any]]
) -> list[outcomes.Tiers]:
    gates = {str(row["instance_id"]): str(row.get("reason") or "") for row in ledger if not row["passed"]}
    found = []
    for name, table in attempts.items():
        of_set = graded.get(name.split("@")[0], trajectories.Graded())
        found.append(outcomes.tiers(name, table, of_set.outcomes, of_set.reasons, gates))
    return found


def _notes(
    datasets: dict[str, int],
    ledger: list[dict[str, Any]],
    sets: list[outcomes.Tiers],
    cards: list[Path],
    tables: int,
    figures: int,
) -> dict[diagram.Key, str]:
    """What stands below a name in the picture of the DAG."""
    notes = {("dataset", name): f"{size} instances" for name, size in datasets.items()}
    notes |= {
        (
            "rollouts",
            found.name,
        ): f"{found.attempts:,} attempts, {100 * found.counts.get('resolved', 0) / found.attempts:.0f} % resolved"
        for found in sets
    }
    for card in cards:
        rows = json.loads(card.read_text(encoding="utf-8"))["left_after"]
        notes["training set", card.name.removesuffix(".card.json")] = (
            f"{min(rows.values()):,} of {rows['rollouts']:,} rollouts"
        )
    notes["images", "instance images"] = (
        f"{sum(bool(row['passed']) for row in ledger)} of {len(ledger)} pass their gate"
    )
    notes["results", "tables and figures"] = f"{tables} tables, {figures} figures"
    return notes


def _hashed(paths: list[Path], records: dict[str, Record]) -> list[tuple[str, str, str]]:
    """(path, sha256, rule that made it) of each file."""
    rules = [records[path.as_posix()].rule or "" if path.as_posix() in records else "" for path in paths]
    return [(path.as_posix(), sha256_file(path), rule) for path, rule in zip(paths, rules, strict=True)]
