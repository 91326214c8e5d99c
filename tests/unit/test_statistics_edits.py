"""Must show 3: what a patch edits, against counts made by hand. Every diff here was made by git from the files beside it."""

import subprocess
from pathlib import Path

import pytest

from swedag.errors import SwedagError
from swedag.statistics.edits import measure
from swedag.statistics.functions import NotTheFileBeforeError, applied, edited_functions, innermost, spans
from swedag.statistics.tree import Size, Tree

BEFORE = """\
import os

LIMIT = 3


def first(a):
    b = a
    return b


class Box:
    size = 1

    @property
    def width(self):
        return self.size

    @width.setter
    def width(self, value):
        self.size = value

    def outer(self, items):
        total = 0

        def inner(item):
            return item + 1

        for item in items:
            total += inner(item)
        return total

    async def fetch(self):
        return None


@decorated(
    1,
)
def last():
    return lambda x: x
"""


def diff(
    tmp_path: Path, before: dict[str, str | bytes | None], after: dict[str, str | bytes | None]
) -> tuple[str, Tree]:
    """git's own diff between two trees (None: no file), and the tree before."""
    repository = tmp_path / "repository"
    git = ("git", "-C", repository, "-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", "init", "-q", repository], check=True)
    for step, files in (("before", before), ("after", after)):
        for name, content in files.items():
            path = repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        subprocess.run([*git, "add", "-A"], check=True)
        if step == "before":
            subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)
    patch = subprocess.run(
        [*git, "diff", "--cached", "-M", "--binary"], check=True, capture_output=True
    ).stdout.decode()
    return patch, Tree(repository)  # its HEAD is the tree before; the changes are staged


def edits(tmp_path, change, name="box.py"):
    """(lines, files, functions, exact) with the tree at hand, for a change of BEFORE."""
    patch, tree = diff(tmp_path, {name: BEFORE}, {name: change(BEFORE)})
    found = measure(patch, tree.text)
    assert found.exact
    return found.lines, found.files, found.functions


def swapped(*pairs):
    def change(text):
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new, 1)
        return text

    return change


@pytest.mark.parametrize(
    ("change", "lines", "functions"),
    [
        pytest.param(swapped(("    b = a\n", "    b = a + 1\n")), 2, 1, id="one line of a function"),
        pytest.param(swapped(("    b = a\n    return b\n", "    return a\n")), 3, 1, id="several lines of one function"),
        pytest.param(swapped(("LIMIT = 3", "LIMIT = 4"), ("import os", "import sys")), 4, 0, id="no function"),
        pytest.param(swapped(("size = 1", "size = 2")), 2, 0, id="a class's own line"),
        pytest.param(swapped(("return item + 1", "return item + 2")), 2, 1, id="a nested function, not its outer one"),
        pytest.param(swapped(("total = 0", "total = 1"), ("item + 1", "item + 2")), 4, 2, id="outer and nested"),
        pytest.param(swapped(("    1,\n", "    2,\n")), 2, 1, id="inside a decorator"),
        pytest.param(swapped(("    @property\n", "    @cached_property\n")), 2, 1, id="a decorator"),
        pytest.param(swapped(("return self.size", "return self.size * 2"), ("self.size = value", "self.size = value / 2")), 4, 2, id="two of one name"),
        pytest.param(swapped(("        return None\n", "        return 1\n")), 2, 1, id="async"),
        pytest.param(swapped(("lambda x: x\n", "lambda x: x + 1\n")), 2, 1, id="a lambda is its function"),
        pytest.param(swapped(("def last():", "def new():\n    return 1\n\n\ndef last():")), 4, 1, id="a new function takes the decorator of the old"),
        pytest.param(lambda text: text + "\n\ndef new():\n    return 1\n", 4, 1, id="a new function"),
        pytest.param(swapped(("def first(a):\n    b = a\n    return b\n\n\n", "")), 5, 1, id="a deleted function"),
        pytest.param(swapped(("def first(a):", "def other(a):")), 2, 2, id="a renamed function is an old and a new one"),
        pytest.param(swapped(("LIMIT = 3\n", "LIMIT = 3  # of boxes\n\n")), 3, 0, id="a comment"),
        pytest.param(lambda text: text.removesuffix("\n"), 2, 1, id="the line end at the end of the file"),
    ],
)  # fmt: skip
def test_edits_of_one_file_as_counted_by_hand(tmp_path, change, lines, functions):
    assert edits(tmp_path, change) == (lines, 1, functions)


def test_other_files_count_as_files_and_lines_but_have_no_functions(tmp_path):
    patch, tree = diff(
        tmp_path,
        {"a.py": BEFORE, "README.md": "def f():\n    pass\n", "logo.png": b"\0\1\2" * 50, "gone.py": "def a(): pass\n\n\ndef b(): pass\n", "name.py": BEFORE},
        {
            "README.md": "def g():\n    pass\n",
            "logo.png": b"\0\3\2" * 50,
            "new.bin": b"\0\1",
            "gone.py": None,
            "name.py": None,
            "new name.py": BEFORE,
            "fresh.py": "class A:\n    def f(self):\n        pass\n\n    def g(self):\n        pass\n",
        },
    )  # fmt: skip
    assert "rename from name.py" in patch and "GIT binary patch" in patch and "deleted file" in patch
    found = measure(patch, tree.text)
    # README 2, gone.py 4 lines removed, fresh.py 6 added; the rename and the two binary files have none.
    assert (found.lines, found.files, found.functions, found.exact) == (2 + 4 + 6, 6, 2 + 2, True)
    assert measure(patch) == found, "new and deleted files stand in the diff itself"


def test_a_file_that_is_renamed_and_changed_has_the_functions_of_its_new_name(tmp_path):
    changed = BEFORE.replace("b = a\n", "b = a + 1\n").replace("total = 0", "total = 1")
    patch, tree = diff(tmp_path, {"old/box.py": BEFORE}, {"old/box.py": None, "new/box.py": changed})
    assert "rename to new/box.py" in patch
    found = measure(patch, tree.text)
    assert (found.lines, found.files, found.functions) == (4, 1, 2)


def test_line_ends_form_feeds_and_byte_order_marks_do_not_shift_lines(tmp_path):
    odd = "\ufeff" + BEFORE.replace("import os\n", "import os\x0c\nTEXT = '\u2028'\n").replace("\n", "\r\n")
    patch, tree = diff(tmp_path, {"box.py": odd}, {"box.py": odd.replace("return item + 1", "return item + 2")})
    found = measure(patch, tree.text)
    assert (found.lines, found.functions, found.exact) == (2, 1, True)


def test_without_the_tree_functions_are_estimated_from_the_hunks(tmp_path):
    change = swapped(("    b = a\n", "    b = a + 1\n"), ("return item + 1", "return item + 2"))
    patch, tree = diff(tmp_path, {"box.py": BEFORE}, {"box.py": change(BEFORE)})
    assert (measure(patch).functions, measure(patch).exact) == (2, False)
    assert measure(patch, tree.text).functions == 2
    assert measure(patch, {}.get) == measure(patch), "a file that the tree lacks"


@pytest.mark.parametrize(
    "text", ["def f(:\n", "print 'two'\n", BEFORE.replace("b = a", "b = c")], ids=["torn", "Python 2", "another"]
)
def test_a_file_that_cannot_be_read_as_the_one_before_is_estimated(tmp_path, text):
    patch, _ = diff(tmp_path, {"box.py": BEFORE}, {"box.py": BEFORE.replace("b = a\n", "b = a + 1\n")})
    found = measure(patch, {"box.py": text}.get)
    assert (found.functions, found.exact) == (1, False)


def test_functions_by_name():
    found = spans(BEFORE)
    assert [name for _, _, name in found] == [
        "first", "Box.width", "Box.width#2", "Box.outer", "Box.outer.inner", "Box.fetch", "last",
    ]  # fmt: skip
    assert innermost(found, 6) == "first" and innermost(found, 3) == "" and innermost(found, None) == ""
    assert innermost(found, BEFORE[: BEFORE.index("return item + 1")].count("\n") + 1) == "Box.outer.inner"
    assert innermost(found, BEFORE[: BEFORE.index("@decorated")].count("\n") + 1) == "last"


def test_a_diff_is_applied_only_where_it_fits(tmp_path):
    from unidiff import PatchSet

    after = BEFORE.replace("LIMIT = 3\n", "").replace("return total", "return -total") + "# end\n"
    patch, _ = diff(tmp_path, {"box.py": BEFORE}, {"box.py": after})
    (file,) = PatchSet(patch)
    assert applied(file, BEFORE) == after
    with pytest.raises(NotTheFileBeforeError, match=r"box\.py: line 1 is not what the diff says"):
        edited_functions(file, "x = 1\n")


def test_the_size_of_a_commit_counts_no_tests_links_and_binaries(tmp_path):
    _, tree = diff(
        tmp_path,
        {"a.py": BEFORE, "b/c.txt": "one\ntwo", "logo.png": b"\0\n\n", "empty": "", "test-data/x": "a\n", "src/testing.py": "a\n", "é.py": "x\n"},
        {"a.py": "staged only\n"},
    )  # fmt: skip
    assert tree.size() == Size(files=5, lines=BEFORE.count("\n") + 2 + 1)
    assert tree.text("a.py") == BEFORE and tree.text("../a.py") is None and tree.text("absent") is None
    with pytest.raises(SwedagError, match="commit 000"):
        Tree(tree.repository, "0" * 40).size()
