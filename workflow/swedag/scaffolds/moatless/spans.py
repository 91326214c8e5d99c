"""Spans: the named pieces of a Python file that the agent finds, is shown and edits. Lines are 1-based, inclusive.

A function is a span by its qualified name (`Class.method`), and so is a class, from its decorators to its last line;
what stands between them at the top of the module is `imports` or `impl:<line>`.
"""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

CHARACTERS_PER_TOKEN = 4
SMALL_CLASS_TOKENS = 1000
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Span:
    """`first` and `last` are lines; of a class, `body` is the first line of its first function, else past its end."""

    id: str
    kind: Literal["function", "class", "code"]
    first: int
    last: int
    body: int


def count_tokens(text: str) -> int:
    """About as many tokens as a tokenizer would count; a scaffold knows no model."""
    return len(text) // CHARACTERS_PER_TOKEN


@lru_cache(maxsize=4096)
def spans_of(source: str) -> tuple[Span, ...]:
    """All spans in the order of their first lines; none for a source that does not parse."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found = [*_definitions(module.body, ""), *_others(module.body)]
    return tuple(sorted(found, key=lambda span: (span.first, -span.last)))


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[Span]:
    for node in body:
        if isinstance(node, Definition):
            name, last = prefix + node.name, node.end_lineno or node.lineno
            inner = [*_definitions(node.body, f"{name}.")] if isinstance(node, ast.ClassDef) else []
            start = min((span.first for span in inner), default=last + 1)
            yield Span(name, "class" if isinstance(node, ast.ClassDef) else "function", _first(node), last, start)
            yield from inner


def _others(body: list[ast.stmt]) -> Iterator[Span]:
    run: list[ast.stmt] = []
    named = False
    for node in [*body, None]:
        if node is not None and not isinstance(node, Definition):
            run.append(node)
            continue
        if run:
            imports = not named and any(isinstance(statement, ast.Import | ast.ImportFrom) for statement in run)
            named = named or imports
            last = run[-1].end_lineno or run[-1].lineno
            yield Span("imports" if imports else f"impl:{run[0].lineno}", "code", run[0].lineno, last, last + 1)
        run = []


def _first(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def text_of(source: str, span: Span) -> str:
    return "\n".join(source.split("\n")[span.first - 1 : span.last])


def shown_lines(source: str, span: Span) -> set[int]:
    """The lines that stand for a span in a prompt: all, but of a large class only its head and the signatures."""
    if span.kind != "class" or count_tokens(text_of(source, span)) <= SMALL_CLASS_TOKENS:
        return set(range(span.first, span.last + 1))
    inner = [other for other in spans_of(source) if other.id.startswith(f"{span.id}.")]
    return set(range(span.first, span.body)) | {other.first for other in inner}


def render(path: str, source: str, ids: Collection[str], *, show_ids: bool = False, numbered: bool = False) -> str:
    """A file as the agent is shown it: the chosen spans, with a comment for what is left out between them."""
    chosen = [span for span in spans_of(source) if span.id in ids]
    shown = set().union(*(shown_lines(source, span) for span in chosen))
    starts = {span.first: span.id for span in reversed(chosen)}
    out, gap = [path, "```python"], False
    for number, line in enumerate(source.split("\n"), 1):
        if number not in shown:
            gap = gap or bool(line.strip())
            continue
        if gap:
            out.append(f"{line[: len(line) - len(line.lstrip())]}# ... rest of the code")
            gap = False
        if show_ids and number in starts:
            out.append(f"<span id='{starts[number]}'>")
        out.append(f"{number:6}\t{line}" if numbered else line)
    return "\n".join([*out, *(["# ... rest of the code"] if gap else []), "```"])
