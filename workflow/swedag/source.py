"""Which files of this package a step really runs: its module and all that it imports, found without running it.

A rule lists them as `input: code=`, and Snakemake compares their content: editing the grader reruns grading and what
follows, editing a plot reruns no rollout.
"""

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def code(module: str, without: Collection[str] = ()) -> list[str]:
    """Source files behind `swedag.<module>`, transitively, sorted, relative to the working directory where possible.

    `without` names modules that are imported, but not run: neither they nor what only they need is among the files.
    """
    unused = tuple(f"swedag.{name}." for name in without)
    seen: set[Path] = set()
    waiting = [_file(f"swedag.{module}")]
    while waiting:
        file = waiting.pop()
        if file is None or file in seen:
            continue
        seen.add(file)
        waiting += [_file(name) for name in _imports(file) if not f"{name}.".startswith(unused)]
    here = Path.cwd()
    return sorted(str(file.relative_to(here) if file.is_relative_to(here) else file) for file in seen)


def _file(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    if module == "swedag":
        return None
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(file: Path) -> frozenset[str]:
    """Dotted names below `swedag` that a file imports, in functions too; b of `from swedag.a import b` may be one."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    parents = {".".join(name.split(".")[:depth]) for name in names for depth in range(2, name.count(".") + 2)}
    return frozenset(name for name in parents if name.startswith("swedag."))
