"""The code index of one repository: classes and functions by name, and a lexical search over the rest.

The original asks a paid embedding service (voyage-code-2) for neighbours in meaning. Here BM25 ranks spans by the words
they share with the query, identifiers split into their parts: nothing to pay, no network, the same answer every time.
Files of tests are left out, as in the original.
"""

import io
import math
import re
import tarfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from itertools import islice
from pathlib import PurePosixPath
from typing import TypeVar

from swedag.scaffolds.moatless.spans import spans_of, text_of

# The usual constants of BM25 (Robertson and Zaragoza 2009), and how many files are looked into span by span.
K1, B = 1.5, 0.75
BEST_FILES = 30
LARGEST_FILE = 500_000
_NAME = re.compile(r"^[ \t]*(?:async[ \t]+)?(class|def)[ \t]+(\w+)", re.M)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_BUILDING = threading.Lock()
Key = TypeVar("Key")


@dataclass(frozen=True)
class Hit:
    """A span that was found."""

    path: str
    span_id: str


@dataclass(frozen=True)
class Index:
    """`files` are the Python files that are no tests; `names` the files that define a class or function."""

    files: Mapping[str, str]
    names: Mapping[tuple[str, str], frozenset[str]]
    words: Mapping[str, Counter[str]]

    def by_name(self, classes: Iterable[str], functions: Iterable[str], pattern: str | None) -> list[Hit]:
        """Spans of these names; functions of these classes where both are given and there are such."""
        classes, functions = list(classes), list(functions)
        named = [*(("class", name) for name in classes), *(("def", name.split(".")[-1]) for name in functions)]
        found = []
        for path in self._matching({path for key in named for path in self.names.get(key, ())}, pattern):
            for span in spans_of(self.files[path]):
                last = span.id.split(".")[-1]
                if last in (classes if span.kind == "class" else {name.split(".")[-1] for name in functions}):
                    found.append(Hit(path, span.id))
        inside = [hit for hit in found if {*hit.span_id.split(".")[:-1]} & set(classes)] if functions else []
        return inside or found

    def by_snippet(self, snippet: str, pattern: str | None) -> list[Hit]:
        """The innermost spans that hold this text."""
        found = []
        for path in self._matching(self.files, pattern):
            at = self.files[path].find(snippet)
            if at >= 0:
                line = self.files[path].count("\n", 0, at) + 1
                around = [span for span in spans_of(self.files[path]) if span.first <= line <= span.last]
                found += [Hit(path, span.id) for span in around[-1:]]
        return found

    def by_words(self, query: str, pattern: str | None) -> Iterator[Hit]:
        """Spans by BM25, best first: of the best files, all spans that share a word with the query."""
        paths = self._matching(self.files, pattern)
        best = list(islice(_rank(query, {path: self.words[path] for path in paths}), BEST_FILES))
        spans = {
            Hit(path, span.id): Counter(_words(text_of(self.files[path], span)))
            for path in best
            for span in spans_of(self.files[path])
            if span.kind != "class" or span.body > span.last
        }
        return _rank(query, spans)

    def _matching(self, paths: Iterable[str], pattern: str | None) -> list[str]:
        chosen = sorted(path for path in paths if not pattern or fnmatch(f"/{path}", f"*{pattern.replace('**/', '*')}"))
        return chosen or (self._matching(paths, None) if pattern else [])


def build(archive: bytes) -> Index:
    """The index of a tar of the repository; the last few are kept, since runs of an instance share theirs."""
    with _BUILDING:
        return _build(archive)


@lru_cache(maxsize=8)
def _build(archive: bytes) -> Index:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() and member.size <= LARGEST_FILE else None
            if content and member.name.endswith(".py") and not is_test(member.name):
                files[member.name] = content.read().decode(errors="replace")
    names = defaultdict(set)
    for path, text in files.items():
        for kind, name in _NAME.findall(text):
            names[kind, name].add(path)
    return Index(
        files,
        {key: frozenset(paths) for key, paths in names.items()},
        {path: Counter(_words(text)) for path, text in files.items()},
    )


def is_test(path: str) -> bool:
    """Whether a path (or a pattern of paths) is one of tests."""
    parts = PurePosixPath(path).parts
    name = parts[-1] if parts else ""
    return name.startswith(("test", "conftest")) or name.endswith("_test.py") or bool({"test", "tests"} & set(parts))


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        parts = [part.lower() for part in _PART.findall(word)]
        yield from parts
        if len(parts) > 1:
            yield word.lower()


def _rank(query: str, documents: Mapping[Key, Counter[str]]) -> Iterator[Key]:
    sizes = {key: words.total() for key, words in documents.items()}
    mean = sum(sizes.values()) / max(len(sizes), 1) or 1
    scores: dict[Key, float] = defaultdict(float)
    for word in sorted(set(_words(query))):
        having = {key: words[word] for key, words in documents.items() if word in words}
        weight = math.log(1 + (len(documents) - len(having) + 0.5) / (len(having) + 0.5))
        for key, count in having.items():
            scores[key] += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * sizes[key] / mean))
    yield from sorted(scores, key=lambda key: (-scores[key], str(key)))
