"""The code that an instance is about: what its row does not hold.

In: a git repository, that of the instance's squashfs layer or a mirror. Out: the number of files and lines at the base
commit, and the text of single files. Counted are regular files, but for those whose path has a word by which SWE-bench
knows tests; lines are those of text. For 219 of SWE-Gym Lite's instances the mean is 335,376 lines in 673 files; the
paper has 340,626 in 819.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swedag.apptainer import run_tool
from swedag.errors import SwedagError
from swedag.squashfs import unpack

# `test`, `tests`, `e2e` and `testing` anywhere in a path (swebench: collect/utils.py); the first holds the other two.
TEST_WORDS = ("test", "e2e")


@dataclass(frozen=True)
class Size:
    """Files and lines of a code base, without its tests."""

    files: int
    lines: int


class Tree:
    """One commit of a git repository."""

    def __init__(self, repository: Path, commit: str = "HEAD") -> None:
        self.repository, self.commit = repository, commit

    def text(self, path: str) -> str | None:
        """A file's text, None if it is not there. ValueError if it is no UTF-8."""
        done = subprocess.run(
            self._git("cat-file", "blob", f"{self.commit}:{path}"), stdin=subprocess.DEVNULL, capture_output=True
        )
        return done.stdout.decode() if done.returncode == 0 else None

    def size(self) -> Size:
        what = f"{self.repository}: commit {self.commit}"
        listed = run_tool(what, *self._git("ls-tree", "-r", "-z", self.commit))
        entries = [entry.partition("\t") for entry in listed.split("\0") if entry]
        blobs = [
            words.split()[2]
            for words, _, path in entries
            if words.startswith("100") and not any(word in path for word in TEST_WORDS)
        ]
        return Size(len(blobs), sum(_lines(content) for content in self._contents(blobs)))

    def _contents(self, blobs: list[str]) -> Iterator[bytes]:
        done = subprocess.run(self._git("cat-file", "--batch"), input="\n".join(blobs).encode(), capture_output=True)
        rest = memoryview(done.stdout)
        for blob in blobs:
            head = bytes(rest[:200]).partition(b"\n")[0]
            name, kind, length = head.decode().split() if head.count(b" ") == 2 else (blob, "missing", "0")
            if kind != "blob":
                raise SwedagError(f"{self.repository}: commit {self.commit}: {name} is missing; clone it again")
            yield bytes(rest[len(head) + 1 : len(head) + 1 + int(length)])
            rest = rest[len(head) + 2 + int(length) :]

    def _git(self, *words: str) -> list[str]:
        return ["git", "-c", "safe.directory=*", "-C", str(self.repository), *words]


@contextmanager
def unpacked(layer: Path) -> Iterator[Tree]:
    """The tree of a layer (/testbed), for as long as the block lasts."""
    if not layer.is_file():
        raise SwedagError(f"{layer}: no such file; counts of the code itself need every instance's layer")
    with tempfile.TemporaryDirectory(prefix="swedag-tree-") as folder:
        out = Path(folder) / "layer"
        unpack(f"{layer}", layer, out, "testbed")
        yield Tree(out / "testbed")


def _lines(content: bytes) -> int:
    if b"\0" in content[:8192]:
        return 0
    return content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
