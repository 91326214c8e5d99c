"""How much a gold patch edits: lines, files, functions (the rows of the paper's Table 2).

In: a diff and, where there is one, the source tree that it applies to. Lines are those added and those removed; a
renamed, binary, new or deleted file is one file; a rename or a binary file alone has no lines.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unidiff import PatchedFile, PatchSet

from swedag.statistics.functions import PYTHON, NotTheFileBeforeError, edited_functions, estimated_functions


@dataclass(frozen=True)
class Edits:
    """Counts of one patch. `exact`: functions come from the files themselves, not from what the hunks show of them."""

    lines: int
    files: int
    functions: int
    exact: bool


def measure(patch: str, before: Callable[[str], str | None] | None = None) -> Edits:
    """The counts of a diff. `before` gives the text of a path of the tree that it applies to, None if there is none."""
    files = PatchSet(patch)
    functions, exact = 0, True
    for file in files:
        if file.path.endswith(PYTHON) and len(file):
            try:
                functions += len(edited_functions(file, _text_before(file, before)))
            except (ValueError, SyntaxError):
                functions += len(estimated_functions(file))
                exact = False
    return Edits(files.added + files.removed, len(files), functions, exact)


def _text_before(file: PatchedFile, before: Callable[[str], str | None] | None) -> str:
    """A new file was empty, and a deleted one stands in the diff; of others the tree must be at hand."""
    if file.is_added_file or file.is_removed_file:
        return "".join(line.value for hunk in file for line in hunk.source_lines())
    text = before(file.source_file.removeprefix("a/")) if before else None
    if text is None:
        raise NotTheFileBeforeError(f"{file.source_file} is not at hand")
    return text
