"""The size of real code, read from a real layer: one of an sdist made here, counted by hand."""

import io
import tarfile

import pytest
from pydantic import TypeAdapter

from swedag.artifacts import write_jsonl
from swedag.edits import unified_patch
from swedag.errors import SwedagError
from swedag.images.instance import build_layer
from swedag.instances import Instance
from swedag.statistics.tree import Size, unpacked
from swedag.tables import TableSettings, make

CODE = "def f(a):\n    return a\n\n\ndef g(a):\n    def h(b):\n        return b\n\n    return h(a)\n"
FILES = {
    "pkg/__init__.py": b"",
    "pkg/code.py": CODE.encode(),  # 9 lines
    "pkg/no_end.py": b"x = 1\ny = 2",  # 2
    "pkg/latin.py": b"# \xe9\n",  # 1
    "pkg/testing.py": b"a\nb\n",
    "tests/test_code.py": b"def test(): pass\n",
    "test-data/unit/check.test": b"[case x]\n",
    "logo.png": b"\x89PNG\0\n\n\n",
    "README": b"one\ntwo\n",  # 2
}


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    sdist = folder / "pkg-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"pkg-1.0/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("pkg-1.0/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "pkg/code.py"
        tar.addfile(link)
    build_layer(sdist, "", folder / "instances/pkg-1.sqsh")
    return folder


@pytest.mark.integration
def test_files_and_lines_without_tests_binaries_and_links(layers):
    with unpacked(layers / "instances/pkg-1.sqsh") as tree:
        assert tree.size() == Size(files=6, lines=9 + 2 + 1 + 2)
        assert tree.text("pkg/code.py") == CODE and tree.text("pkg/absent.py") is None
        assert tree.text("/etc/passwd") is None and tree.text("../../etc/passwd") is None
    assert not tree.repository.exists()


@pytest.mark.integration
def test_table_2_with_the_code_itself(layers, tmp_path):
    patch = unified_patch(
        "pkg/code.py", CODE, CODE.replace("return b", "return b + 1").replace("return a", "return a + 1")
    )
    row = Instance(
        instance_id="pkg-1", repo="pkg", version="1.0", problem_statement="two words", patch=patch, environment="e",
        FAIL_TO_PASS=["t"], PASS_TO_PASS=[], source="sdist:pkg==1.0", test_command="pytest", test_files=["tests"],
    )  # fmt: skip
    write_jsonl(tmp_path / "one.jsonl", [row])
    chosen = TypeAdapter(TableSettings).validate_python({"kind": "statistics", "datasets": ["one"], "code": True})
    table = make(chosen, [], [], [tmp_path / "one.jsonl"], [], layers)
    values = {line["metric"]: line["one"] for line in table.tidy}
    assert (values["non_test_files_mean"], values["non_test_lines_mean"]) == (6, 14)
    assert (values["lines_edited_mean"], values["functions_edited_mean"]) == (4, 2)
    assert not table.notes
    with pytest.raises(SwedagError, match=r"absent/instances/pkg-1\.sqsh: no such file"):
        make(chosen, [], [], [tmp_path / "one.jsonl"], [], tmp_path / "absent")
