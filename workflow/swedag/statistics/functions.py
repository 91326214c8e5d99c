"""Which functions a patch edits. Pure: a parsed diff and the files before it in, names out.

The rule, since the paper gives none. A function is a `def` or `async def` anywhere, methods and nested ones included,
with its decorators. A patch edits the innermost function around each line that it removes (in the file before) or adds
(in the file after). So a changed nested function does not count its outer one; a deleted or a new function counts; a
rewritten one counts once; code outside functions counts for none. Only Python files have functions. A renamed file's
functions are those of its new name.
For 224 of SWE-Gym Lite's gold patches, rebuilt from git, the mean is 1.31, and 1.33 by the estimate; the paper has 1.4.
"""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator

from unidiff import Hunk, PatchedFile

PYTHON = (".py", ".pyi")
DEFINITION = re.compile(r"^(?P<indent>\s*)(?:(?:async\s+)?def|class)\s+(?P<name>\w+)")
IS_CLASS = re.compile(r"^\s*class\s")

Spans = list[tuple[int, int, str]]


class NotTheFileBeforeError(ValueError):
    """A hunk's lines are not where it says they are."""


def edited_functions(file: PatchedFile, before: str) -> set[str]:
    """Qualified names of the functions of a Python file that the diff edits; `before`: its text, empty for a new file.

    ValueError or SyntaxError if `before` is not the file that the diff is of, or no Python of today.
    """
    spans_before, spans_after = spans(before), spans(applied(file, before))
    found = set()
    for hunk in file:
        for line in hunk:
            if line.is_removed:
                found.add(innermost(spans_before, line.source_line_no))
            elif line.is_added:
                found.add(innermost(spans_after, line.target_line_no))
    return found - {""}


def estimated_functions(file: PatchedFile) -> set[str]:
    """The same read off the hunks alone: `def` lines that they show, and the headings git gave them.

    A heading names the nearest unindented line, so all changed lines below a class whose `def` is not shown are taken
    for one function.
    """
    found: set[str] = set()
    for hunk in file:
        for side in (hunk.source_lines(), hunk.target_lines()):
            found |= set(_shown(hunk, [(line.value, not line.is_context) for line in side]))
    return found


def spans(source: str) -> Spans:
    """(first line, last line, name) of every function, from 1 and inclusive; names that recur are numbered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source.removeprefix("\ufeff"))
    seen: Counter[str] = Counter()
    found: Spans = []
    for name, node in _definitions(tree, ""):
        seen[name] += 1
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        found.append((first, node.end_lineno or node.lineno, f"{name}#{seen[name]}" if seen[name] > 1 else name))
    return found


def innermost(found: Spans, line: int | None) -> str:
    """The function around a line, or nothing: of those that hold it, the one that begins last."""
    around = [span for span in found if line is not None and span[0] <= line <= span[1]]
    return max(around)[2] if around else ""


def applied(file: PatchedFile, before: str) -> str:
    """The text of a file after the diff."""
    old = before.split("\n")
    new: list[str] = []
    done = 0
    for hunk in file:
        # A hunk that only adds names the line that it follows.
        start = hunk.source_start - 1 if hunk.source_length else hunk.source_start
        shown = [line.value.removesuffix("\n") for line in hunk.source_lines()]
        if start < done or old[start : start + len(shown)] != shown:
            raise NotTheFileBeforeError(f"{file.path}: line {hunk.source_start} is not what the diff says")
        new += old[done:start] + [line.value.removesuffix("\n") for line in hunk.target_lines()]
        done = start + len(shown)
    return "\n".join(new + old[done:])


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{prefix}{child.name}.")
        else:
            yield from _definitions(child, prefix)


def _shown(hunk: Hunk, lines: list[tuple[str, bool]]) -> Iterator[str]:
    """Names of the functions around the changed ones of `lines`, as far as the hunk tells."""
    heading = DEFINITION.match(hunk.section_header)
    # (indentation, name, whether a function) from the outside in; below a heading some function is taken for granted.
    around: list[tuple[int, str, bool]] = [(-1, heading["name"], True)] if heading else []
    for text, changed in lines:
        if not text.strip():
            continue
        indent = len(text) - len(text.lstrip())
        if not text.lstrip().startswith(("#", ")", "]", "}")):
            around = [one for one in around if one[0] < indent] if indent else []
        if definition := DEFINITION.match(text):
            around.append((indent, definition["name"], not IS_CLASS.match(text)))
        if changed and around and around[-1][2]:
            yield ".".join(name for _, name, _ in around)
