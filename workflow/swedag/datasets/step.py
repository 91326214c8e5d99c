"""`swedag instances`: the rows of a published dataset that a run uses, as instances, and what became of each row.

In: rows (hub.py fetches them, published.py reads them), specs, exclusion lists, settings. Out: `<dataset>.jsonl`,
sorted by id, and `<dataset>.rows.csv` with one line for every row of the source and every id asked for in vain.
The ids are known before anything runs: the config lists them, or planning reads them off the local file.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import typer
from pydantic import BaseModel, ConfigDict, Field, model_validator

from swedag.artifacts import replacing, write_jsonl
from swedag.datasets.exclusions import Exclusion, exclusion_file, read_exclusions
from swedag.datasets.hub import HubSource
from swedag.datasets.published import INSTANCE_ID, PublishedRow, Reading, read_published
from swedag.datasets.specs import RepositorySpec, read_specs, resolve, spec_files
from swedag.errors import SwedagError
from swedag.grading.parsers import PARSERS
from swedag.images.mirror import BuildSettings
from swedag.images.pull import RegistrySettings
from swedag.instances import Instance

SHOWN = 10


class FileSource(BaseModel):
    """Rows that lie on this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file"] = Field("file", description="From a file")
    path: str = Field(pattern=r"\.(jsonl|parquet)$", description="A .jsonl or .parquet file in the form of SWE-bench")

    def rows_file(self) -> str:
        return self.path


class PublishedSettings(BaseModel):
    """Instances of a published dataset: SWE-Gym, SWE-bench, or rows of the same form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["published"] = Field(description="Rows as somebody published them")
    source: HubSource | FileSource = Field(discriminator="kind", description="Where the rows are")
    ids: str | list[str] | None = Field(
        None,
        description="Ids to use, or a text file with one a line; null: all rows, of a file or of a Hub source that is "
        "not to be run",
    )
    exclude: list[str] = Field([], description="Lists of config/exclusions, without .csv")
    on_malformed: Literal["refuse", "skip"] = Field(
        "refuse", description="Whether a row that cannot be used stops the run or is left out and reported"
    )
    max_patch_bytes: int = Field(10_000_000, ge=1, description="A row with a longer patch or test patch is malformed")
    images: Annotated[RegistrySettings | BuildSettings, Field(discriminator="source")] | None = Field(
        None, description="Where the instances' images come from; null: rows to count, not to run"
    )

    @model_validator(mode="after")
    def _planned(self) -> Self:
        if self.images and isinstance(self.source, HubSource) and self.ids is None:
            raise ValueError(
                "ids: a dataset of the Hub with images needs its ids, so that the DAG is known before the rows are; "
                "name a list of config/instances, or fetch the rows (swedag fetch-dataset) and use them as a file"
            )
        if isinstance(self.source, HubSource) and self._by_specs():
            raise ValueError(
                "images: which environments the rows of a dataset of the Hub have by config/specs is not known before "
                "they are fetched; fetch them (swedag fetch-dataset) and use them as a file, or do without `slim` or "
                "build one `environment` for all"
            )
        return self

    def ids_are_known(self) -> bool:
        return isinstance(self.source, FileSource) or self.ids is not None

    def instance_ids(self) -> list[str]:
        """The ids of the data set, which are known before it is made; none if they are not and need not be."""
        if isinstance(self.source, FileSource):
            return [one for one, _ in self._planned_rows()]
        excluded = read_exclusions(self.exclusion_files())
        return sorted(one for one in self.wanted() or [] if one.lower() not in excluded)

    def environments(self) -> dict[str, str]:
        """By instance id: the name of its environment image. An instance whose image is whole has none."""
        if self._by_specs():
            return dict(self._planned_rows())
        named = self.images.environment if isinstance(self.images, BuildSettings) else None
        return dict.fromkeys(self.instance_ids(), named) if named else {}

    def _by_specs(self) -> bool:
        """Whether config/specs says which instances share an environment."""
        images = self.images
        return images.slim if isinstance(images, RegistrySettings) else images is not None and not images.environment

    def _planned_rows(self) -> tuple[tuple[str, str], ...]:
        return _planned_from_file(self.model_dump_json(), _stamp(Path(self.source.rows_file())))

    def wanted(self) -> list[str] | None:
        """The ids that are asked for, each once; None: all."""
        if self.ids is None:
            return None
        ids = read_ids(Path(self.ids)) if isinstance(self.ids, str) else list(self.ids)
        for one in ids:
            if not re.fullmatch(INSTANCE_ID, one):
                raise SwedagError(f"ids: {one!r:.80} is no instance_id (in {self.ids!s:.80})")
        by_key = {one.lower(): one for one in ids}
        if len(by_key) < len(ids):
            raise SwedagError(f"ids: {len(ids) - len(by_key)} ids stand more than once in {self.ids!s:.80}")
        return list(by_key.values())

    def exclusion_files(self) -> list[Path]:
        return [exclusion_file(name) for name in self.exclude]

    def input_files(self) -> dict[str, list[str]]:
        """Files that the step reads besides rows: ids, exclusion lists, specs of the repositories in question."""
        repositories = {one.rpartition("-")[0] for one in self.instance_ids()} if self.ids_are_known() else None
        return {
            "ids": [self.ids] if isinstance(self.ids, str) else [],
            "exclusions": list(map(str, self.exclusion_files())),
            "specs": list(map(str, spec_files(repositories))),
        }


@dataclass(frozen=True)
class RowReport:
    """What became of a row. `line` counts from 1; None: an id was asked for that no row has."""

    line: int | None
    instance_id: str
    kept: bool
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Selection:
    """Instances sorted by id, and a report of every row in the order of the file."""

    instances: list[Instance]
    report: list[RowReport]


def read_ids(path: Path) -> list[str]:
    """Ids of a text file, one a line; `#` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SwedagError(f"ids: {path} cannot be read: {error}") from error
    return [found for line in lines if (found := line.partition("#")[0].strip())]


def select(
    reading: Reading,
    wanted: Iterable[str] | None,
    excluded: Mapping[str, Exclusion],
    specs: Mapping[str, RepositorySpec],
    on_malformed: Literal["refuse", "skip"],
) -> Selection:
    """The instances that rows give. SwedagError names the lines of unusable rows if they are to be refused."""
    if reading.faults and on_malformed == "refuse":
        raise SwedagError(
            f"{reading.path}: {len(reading.faults)} of {len(reading.faults) + len(reading.rows)} rows cannot be used: "
            + _some([f"line {fault.line}: {fault.kind}: {fault.detail}" for fault in reading.faults])
            + "; mend them, or leave them out with on_malformed: skip"
        )
    asked = None if wanted is None else {one.lower() for one in wanted}
    instances: list[Instance] = []
    report = [RowReport(fault.line, fault.instance_id, False, fault.kind, fault.detail) for fault in reading.faults]
    for line, row in reading.rows:
        key = row.instance_id.lower()
        if asked is not None and key not in asked:
            report.append(RowReport(line, row.instance_id, False, "not asked for"))
        elif key in excluded:
            why = excluded[key]
            report.append(RowReport(line, row.instance_id, False, f"excluded: {why.list_name}", why.reason))
        else:
            made = as_instance(row, specs)
            if isinstance(made, Instance):
                instances.append(made)
            report.append(
                RowReport(line, row.instance_id, True)
                if isinstance(made, Instance)
                else RowReport(line, row.instance_id, False, "no environment", made)
            )
    report.sort(key=lambda one: one.line or 0)
    present = {row.instance_id.lower() for _, row in reading.rows}
    absent = sorted(one for one in wanted or [] if one.lower() not in present and one.lower() not in excluded)
    if absent and on_malformed == "refuse":
        raise SwedagError(f"{reading.path}: no row has {len(absent)} of the ids that were asked for: {_some(absent)}")
    report += [RowReport(None, one, False, "absent", "no usable row has this id") for one in absent]
    return Selection(sorted(instances, key=lambda one: one.instance_id), report)


def as_instance(row: PublishedRow, specs: Mapping[str, RepositorySpec]) -> Instance | str:
    """A row with its environment, or why it has none."""
    found = resolve(specs, row.repo, row.version)
    if isinstance(found, str):
        return found
    spec, environment = found
    if spec.log_parser not in PARSERS:
        return f"the spec of {spec.repository} names the log parser {spec.log_parser!r}, which is not known"
    tests = spec.selected_tests(row.test_patch)
    if not tests:
        return "the test patch has no file that a test runner could be given"
    return Instance(
        **row.model_dump(),
        environment=spec.environment_name(environment),
        source=f"git:https://github.com/{row.repo}",
        test_command=environment.test_command,
        test_files=tests,
        log_parser=spec.log_parser,
    )


def main(
    settings: Annotated[str, typer.Option(help="PublishedSettings as JSON")],
    rows: Annotated[Path, typer.Option(help="The rows (.jsonl or .parquet)")],
    output: Annotated[Path, typer.Option(help="The instances (.jsonl)")],
    report: Annotated[Path, typer.Option(help="What became of each row (.csv)")],
    specs: Annotated[
        list[Path] | None, typer.Option(help="Environment specs (.yaml); by default all of config/specs")
    ] = None,
) -> None:
    """Turn the rows of a published dataset into instances, and account for every row."""
    chosen = PublishedSettings.model_validate_json(settings)
    reading = read_published(rows, chosen.max_patch_bytes)
    files = specs or spec_files(row.repo for _, row in reading.rows)
    excluded = read_exclusions(chosen.exclusion_files())
    wanted = chosen.wanted()
    selection = select(reading, wanted, excluded, read_specs(files), chosen.on_malformed)
    write_report(report, selection.report)
    unusable = [
        one
        for one in selection.report
        if wanted is not None and isinstance(chosen.source, HubSource) and not one.kept and one.reason in _NOT_PLANNED
    ]
    if unusable:
        raise SwedagError(
            f"{rows}: {len(unusable)} of the ids that were asked for have no usable row: "
            + _some([f"{one.instance_id or f'line {one.line}'} ({one.reason}: {one.detail})" for one in unusable])
            + f"; take them out of `ids` or name them in a list of config/exclusions (all of them: {report})"
        )
    if not selection.instances:
        raise SwedagError(f"{rows}: no row is left of {len(selection.report)}; see {report}")
    images = chosen.images
    write_jsonl(output, [in_image(one, images) if images else one for one in selection.instances])


def in_image(instance: Instance, images: RegistrySettings | BuildSettings) -> Instance:
    """The instance as it is tested in its image. A published one is whole, unless it is to be split."""
    command = instance.test_command
    if isinstance(images, BuildSettings):
        command = images.test_command or command
    elif images.activate:
        command = f"{images.activate} && {command}"
    environment = images.environment_of(instance.environment, instance.version)
    return instance.model_copy(update={"environment": environment, "test_command": command})


# Reasons that the plan of a Hub's dataset could not see; `not asked for` and `excluded` it did.
_NOT_PLANNED = ("absent", "no environment")


def write_report(path: Path, report: Iterable[RowReport]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["line", "instance_id", "kept", "reason", "detail"])
        for one in report:
            line = "" if one.line is None else one.line
            writer.writerow([line, one.instance_id, "yes" if one.kept else "no", one.reason, one.detail])


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was written and how long it is; zeros if there is none."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)


@cache
def _planned_from_file(settings: str, stamp: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """Ids and environments of the rows that the step will keep; a file is read once by a planning process."""
    chosen = PublishedSettings.model_validate_json(settings)
    reading = read_published(Path(chosen.source.rows_file()), chosen.max_patch_bytes)
    specs = read_specs(spec_files(row.repo for _, row in reading.rows))
    excluded = read_exclusions(chosen.exclusion_files())
    selection = select(reading, chosen.wanted(), excluded, specs, chosen.on_malformed)
    images = chosen.images
    instances = [in_image(one, images) if images else one for one in selection.instances]
    return tuple((instance.instance_id, instance.environment) for instance in instances)


def _some(all_of: list[str]) -> str:
    more = f" … and {len(all_of) - SHOWN} more" if len(all_of) > SHOWN else ""
    return "; ".join(all_of[:SHOWN]) + more
