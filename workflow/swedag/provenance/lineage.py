"""`swedag lineage`: the tree of files, hashes and parameters that made a file.

In: a file below results/ and Snakemake's records. Out: a tree on stdout, or JSON with every file once.
"""

import csv
import io
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from swedag import __version__
from swedag.artifacts import sha256
from swedag.errors import SwedagError
from swedag.provenance.records import CODE, Lineage, Node, upstream

SHOWN = 12
TOGETHER = 4
WIDE = 10_000


def main(
    file: Annotated[Path, typer.Argument(help="A file below results/, relative to the working directory")],
    row: Annotated[
        str, typer.Argument(help="A row of a table, by number (from 1) or by its first cell: only what it is made of")
    ] = "",
    depth: Annotated[int, typer.Option(min=1, help="Levels to print")] = 99,
    every: Annotated[
        bool, typer.Option("--all", help="Print every file; else many of a folder stand in one line")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="All files once, with hashes, rules, params and inputs")
    ] = False,
    root: Annotated[Path, typer.Option(help="Where Snakemake ran")] = Path(),
) -> None:
    """Print what made FILE: every file upstream of it with its sha256, and the rule and parameters that made it."""
    if not (root / file).exists():
        raise SwedagError(f"{file}: no such file; give a path below results/ as the rules name it")
    top = Lineage(root).node(file.as_posix())
    if top.record is None:
        raise SwedagError(f"{file}: Snakemake has no record of making it in {root / '.snakemake' / 'metadata'}")
    if row:
        top = of_row(top, root / file, row)
    if as_json:
        typer.echo(json.dumps({path: described(node, root) for path, node in upstream([top]).items()}, indent=1))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE  # a file or a pipe has no edge to cut paths at
    console.print(tree(top, depth, every))
    found = upstream([top])
    modules = sum(path.startswith(CODE) for path in found)
    images = sum(len(images_of(root / path)) for path in found)
    counted = f"{len(found)} files in all, {modules} of them code of swedag {__version__}"
    counted += f"; {images} images, whose digests --json has" if images else ""
    console.print(f"{counted}; lineage {top.lineage[:SHOWN]}", style="dim")


def tree(top: Node, depth: int = 99, every: bool = False) -> Tree:
    """`top` and what is upstream of it; what stands twice is printed once."""
    grown = Tree(_label(top))
    _grow(grown, top, depth, every, {top.path})
    return grown


def as_text(top: Node) -> str:
    """The same in plain text, many files of a folder in one line."""
    console = Console(file=io.StringIO(), width=WIDE, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(tree(top))
    return captured.get()


def of_row(top: Node, file: Path, row: str) -> Node:
    """The node without those inputs that are of other rows: sets, training sets or datasets that its cells do not name.

    A row that names none of them is made of all, such as one of a table that has its sets side by side.
    """
    with file.open(newline="") as stream:
        rows = [list(cells.values()) for cells in csv.DictReader(stream)]
    chosen = [cells for number, cells in enumerate(rows, 1) if row in (str(number), cells[0])]
    if not chosen:
        raise SwedagError(f"{file}: no row {row!r}; give a number from 1 to {len(rows)} or a first cell")
    kinds = {"attempts", "sft", "instances"}
    named = {str(cell) for cells in chosen for cell in cells}
    of_rows = [node for node in top.inputs if PurePosixPath(node.path).parent.name in kinds]
    others = [node for node in of_rows if _name(node.path) not in named]
    dropped = {node.path for node in others} if len(others) < len(of_rows) else set()
    kept = [node for node in top.inputs if node.path not in dropped]
    return Node(top.path, top.sha256, top.lineage, top.record, kept, top.changed)


def _name(path: str) -> str:
    return PurePosixPath(path).name.removesuffix(".csv").removesuffix(".jsonl").removesuffix(".card.json")


def images_of(path: Path) -> dict[str, str]:
    """Digest of the image of each instance that a record of images has: the registry's, or the sha256 of a layer."""
    if not path.name.endswith(".images.jsonl") or not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["instance_id"]: row["digest"] or f"sha256:{row['sha256']}" for row in rows if row["file"]}


def described(node: Node, root: Path) -> dict[str, Any]:
    """A node as plain data, its inputs by path."""
    record, images = node.record, images_of(root / node.path)
    return {
        "sha256": node.sha256,
        "lineage": node.lineage,
        "rule": record.rule if record else None,
        "params": record.params if record else None,
        "command": record.shellcmd if record else None,
        "container": record.container_img_url if record else None,
        "inputs": [other.path for other in node.inputs],
        "changed_since": list(node.changed),
        **({"images": images} if images else {}),
    }


def _grow(tree: Tree, node: Node, depth: int, every: bool, shown: set[str]) -> None:
    if not depth:
        return
    for group in _groups(node.inputs, every):
        if len(group) > 1:
            tree.add(_together(group))
            _grow_first(tree.children[-1], group, depth, every, shown)
            continue
        child = group[0]
        again = child.path in shown and bool(child.inputs)
        shown.add(child.path)
        branch = tree.add(_label(child) + (" [dim](as above)[/]" if again else ""))
        if child.path in node.changed:
            branch.label = f"{branch.label} [bold red]changed since[/]"
        if not again:
            _grow(branch, child, depth - 1, every, shown)


def _grow_first(tree: Tree, group: list[Node], depth: int, every: bool, shown: set[str]) -> None:
    """Below a line for many files of one kind: the inputs of all of them, once."""
    inputs = {other.path: other for node in group for other in node.inputs}
    if inputs and group[0].path not in shown:
        shown.update(node.path for node in group)
        together = Node("", None, "", None, [inputs[path] for path in sorted(inputs)])
        _grow(tree, together, depth - 1, every, shown)


def _groups(nodes: list[Node], every: bool) -> list[list[Node]]:
    """Files of one folder and rule together, if there are many."""
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        folder = (
            "workflow" if node.record is None and node.path.startswith("workflow/") else str(Path(node.path).parent)
        )
        groups.setdefault((folder, node.record.rule or "" if node.record else ""), []).append(node)
    listed = []
    for group in groups.values():
        listed += [group] if len(group) > TOGETHER and not every else [[node] for node in group]
    return listed


def _label(node: Node) -> str:
    content = node.sha256[:SHOWN] if node.sha256 else "gone"
    rule = f" [cyan]{escape(node.record.rule or '')}[/]" if node.record else ""
    params = [param for param in (node.record.params or [] if node.record else []) if param]
    listed = f" [dim]{escape(_short(' '.join(params)))}[/]" if params else ""
    return f"{escape(node.path)} [green]{content}[/]{rule}{listed}"


def _together(group: list[Node]) -> str:
    hashes = sha256("".join(f"{node.sha256}  {node.path}\n" for node in group))
    folder = Path(group[0].path).parent
    what = (
        "modules of workflow/swedag"
        if group[0].record is None and group[0].path.startswith("workflow/")
        else str(folder)
    )
    rule = f" [cyan]{escape(group[0].record.rule or '')}[/]" if group[0].record else ""
    return f"{len(group)} in {escape(what)} [green]{hashes[:SHOWN]}[/]{rule}"


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
