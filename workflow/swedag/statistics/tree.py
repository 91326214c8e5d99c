"""The code that an instance is about, read from its layer: what a row does not hold.

In: the instance's squashfs layer. Out: the number of its files and lines, and the text of single files. Counted are
regular files that the base commit tracks, but for those whose path has a word by which SWE-bench knows tests; lines are
those of text. For 219 of SWE-Gym Lite's instances the mean is 335,376 lines in 673 files; the paper has 340,626 in 819.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swedag.apptainer import run_tool
from swedag.errors import SwedagError

# `test`, `tests`, `e2e` and `testing` anywhere in a path (swebench: collect/utils.py); the first holds the other two.
TEST_WORDS = ("test", "e2e")


@dataclass(frozen=True)
class Size:
    """Files and lines of a code base, without its tests."""

    files: int
    lines: int


class Tree:
    """An unpacked work tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def text(self, path: str) -> str | None:
        """A file's text, None if it is not there. ValueError if it is no UTF-8."""
        file = (self.folder / path).resolve()
        return file.read_bytes().decode() if file.is_relative_to(self.folder) and file.is_file() else None

    def size(self) -> Size:
        listed = run_tool(
            str(self.folder),
            *("git", "-c", "safe.directory=*", "-C", self.folder, "ls-tree", "-r", "-z", "--name-only", "HEAD"),
        )
        paths = [path for path in listed.split("\0") if path and not any(word in path for word in TEST_WORDS)]
        files = [file for path in paths if (file := self.folder / path).is_file() and not file.is_symlink()]
        return Size(len(files), sum(map(_lines, files)))


@contextmanager
def unpacked(layer: Path) -> Iterator[Tree]:
    """The tree of a layer (/testbed), for as long as the block lasts."""
    if not layer.is_file():
        raise SwedagError(f"{layer}: no such file; counts of the code itself need every instance's layer")
    with tempfile.TemporaryDirectory(prefix="swedag-tree-") as folder:
        out = Path(folder) / "layer"
        run_tool(f"{layer}", "unsquashfs", "-quiet", "-no-progress", "-no-xattrs", "-dest", out, layer, "testbed")
        yield Tree(out / "testbed")


def _lines(file: Path) -> int:
    content = file.read_bytes()
    if b"\0" in content[:8192]:
        return 0
    return content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
