"""The tables of datasets, after the paper's Table 1, Table 2 and Figure 2, counted from the instances.

In: instances and, for sizes of the code, layers or mirrors. Out: Table 2 has one row per metric and one column per
dataset (means over instances), Table 1 one row per dataset, Figure 2 one row per repository.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from swedag.errors import SwedagError
from swedag.instances import Instance, image_files
from swedag.metrics.intervals import mean
from swedag.reference import ReferenceTable
from swedag.statistics.edits import Edits
from swedag.statistics.edits import measure as measure_edits
from swedag.statistics.tree import Size, Tree, unpacked
from swedag.tables.document import Cell, Document
from swedag.tables.settings import DatasetsTable, RepositoriesTable, StatisticsTable

# Named as in the paper's table in config/reference, so that its rows are found.
METRICS = {
    "instances": "instances",
    "repos": "repositories",
    "length_by_words_mean": "issue length, words",
    "non_test_files_mean": "code: files that are no tests",
    "non_test_lines_mean": "code: lines in them",
    "lines_edited_mean": "gold patch: lines edited",
    "files_edited_mean": "gold patch: files edited",
    "functions_edited_mean": "gold patch: functions edited",
    "fail_to_pass_mean": "fail-to-pass tests",
    "total_mean": "named tests",
}


def statistics(
    settings: StatisticsTable,
    datasets: dict[str, list[Instance]],
    reference: ReferenceTable | None,
    images: Path | None = None,
) -> Document:
    """`datasets` by name. `total_mean` counts named tests (fail-to-pass and pass-to-pass), as the paper does.

    If the code is to be counted: `images` is the folder of the images, with mirrors/<owner>__<name>.git for instances
    at a commit of a repository, and the layers of all others.
    """
    measured, notes = {}, []
    for name in settings.datasets:
        tree = (lambda instance: tree_of(instance, images)) if settings.code else None
        measured[name], estimated = measure(name, datasets[name], tree)
        if estimated:
            share = f"{estimated} of {len(datasets[name])}"
            notes.append(f"{name}: edited functions of {share} patches are estimated from what the hunks show")
    rows: list[dict[str, Cell]] = []
    for metric in [one for one in METRICS if any(measured[name][one] is not None for name in settings.datasets)]:
        row: dict[str, Cell] = {"metric": metric} | {name: measured[name][metric] for name in settings.datasets}
        if reference and settings.reference:
            selection = settings.reference.where | {"metric": metric}
            for name, column in settings.reference.columns.items():
                row[f"paper_{name}"] = reference.cells(selection, column)
        rows.append(row)
    columns = [key for key in rows[0] if key != "metric"]
    theirs = settings.reference.columns if settings.reference else {}
    header = ["mean over instances", *(_heading(key, theirs) for key in columns)]
    lines = [[METRICS[str(row["metric"])], *[_cell(str(row["metric"]), row[key]) for key in columns]] for row in rows]
    return Document(settings.caption, rows, header, lines, notes)


@contextmanager
def tree_of(instance: Instance, images: Path | None) -> Iterator[Tree]:
    """The code of an instance, for as long as the block lasts."""
    if images is None:
        raise SwedagError(f"--images: the code of {instance.instance_id} is counted in its mirror or layer")
    _, layer = image_files(images, instance)
    if instance.source.startswith("git:") or layer is None:
        yield Tree(images / "mirrors" / f"{instance.repo.replace('/', '__')}.git", instance.base_commit)
    else:
        with unpacked(layer) as tree:
            yield tree


def measure(
    name: str, instances: list[Instance], tree_of: Callable[[Instance], AbstractContextManager[Tree]] | None = None
) -> tuple[dict[str, float | None], int]:
    """The metrics of a dataset, and how many instances have their edited functions estimated."""
    if not instances:
        raise SwedagError(f"dataset {name}: no instances")
    sizes: list[Size] = []
    edits: list[Edits] = []
    for instance in instances:
        if tree_of is None:
            edits.append(measure_edits(instance.patch))
        else:
            with tree_of(instance) as tree:
                sizes.append(tree.size())
                edits.append(measure_edits(instance.patch, tree.text))
    counts: dict[str, float | None] = {
        "instances": len(instances),
        "repos": len({instance.repo for instance in instances}),
        "length_by_words_mean": mean([float(len(instance.problem_statement.split())) for instance in instances]),
        "non_test_files_mean": mean([float(size.files) for size in sizes]) if sizes else None,
        "non_test_lines_mean": mean([float(size.lines) for size in sizes]) if sizes else None,
        "lines_edited_mean": mean([float(edit.lines) for edit in edits]),
        "files_edited_mean": mean([float(edit.files) for edit in edits]),
        "functions_edited_mean": mean([float(edit.functions) for edit in edits]),
        "fail_to_pass_mean": mean([float(len(instance.FAIL_TO_PASS)) for instance in instances]),
        "total_mean": mean([float(len(i.FAIL_TO_PASS) + len(i.PASS_TO_PASS)) for i in instances]),
    }
    return counts, sum(not edit.exact for edit in edits)


def overview(
    settings: DatasetsTable, datasets: dict[str, list[Instance]], reference: ReferenceTable | None
) -> Document:
    """Table 1: whether instances are whole repositories, can be run, and are real issues; and how many there are."""
    rows: list[dict[str, Cell]] = []
    for position, name in enumerate(settings.datasets):
        instances = datasets[name]
        row: dict[str, Cell] = {
            "dataset": name,
            "repository_level": _yes(all(instance.repo for instance in instances)),
            "executable_environment": _yes(all(i.test_command and i.FAIL_TO_PASS for i in instances)),
            "real_task": _yes(not any(instance.bug_patch for instance in instances)),
            "instances": len(instances),
        }
        if reference and settings.reference:
            for ours, theirs in settings.reference.columns.items():
                row[f"paper_{ours}"] = reference.cells(settings.reference.selection(position), theirs)
        rows.append(row)
    header = ["dataset", "repository level", "executable", "real issues", "instances"]
    header += [f"paper: {key.removeprefix('paper_')}" for key in rows[0] if key.startswith("paper_")]
    return Document(settings.caption, rows, header, [[_cell("", cell) for cell in row.values()] for row in rows])


def repositories(
    settings: RepositoriesTable, datasets: dict[str, list[Instance]], reference: ReferenceTable | None
) -> Document:
    """Figure 2: instances by repository, those with most first; repositories that only the paper has, too."""
    counts = {name: Counter(instance.repo for instance in datasets[name]) for name in settings.datasets}
    theirs = settings.reference.columns if reference and settings.reference else {}
    known = {row["repo"] for row in reference.rows} if reference else set()
    total = sum(counts.values(), Counter[str]())
    names = sorted(known | set(total), key=lambda repo: (-total[repo], repo.lower()))
    rows: list[dict[str, Cell]] = []
    for repo in names:
        row: dict[str, Cell] = {"repo": repo} | {name: counts[name][repo] for name in settings.datasets}
        for name, column in theirs.items():
            there = reference is not None and repo in known
            row[f"paper_{name}"] = reference.cells({"repo": repo}, column) if reference and there else None
        rows.append(row)
    columns = [key for key in rows[0] if key != "repo"]
    header = ["repository", *(_heading(key, theirs) for key in columns)]
    return Document(settings.caption, rows, header, [[_cell("", cell) for cell in row.values()] for row in rows])


def _heading(key: str, theirs: dict[str, str]) -> str:
    return f"paper: {theirs[key.removeprefix('paper_')]}" if key.startswith("paper_") else key


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _cell(metric: str, value: Cell) -> str:
    if not isinstance(value, int | float):
        return str(value or "")
    return f"{value:,.1f}" if metric.endswith("_mean") else f"{value:,.0f}"
