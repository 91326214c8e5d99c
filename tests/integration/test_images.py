"""Images built by Apptainer and squashfs: what is in them, that their bytes repeat, and what a failure says."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from swedag.apptainer import find_apptainer
from swedag.artifacts import sha256_file
from swedag.edits import unified_patch
from swedag.errors import SwedagError
from swedag.images import environment, sources, system, wheels
from swedag.images.instance import build_layer, layer_file
from swedag.sandbox import Sandbox
from tests.integration.conftest import Images

pytestmark = pytest.mark.integration
LEXER = "sqlparse/lexer.py"


@pytest.fixture(scope="module")
def bug(images: Images) -> str:
    before = layer_file(images.layer, LEXER)
    after = before.replace("import re", "import re  # a bug", 1)
    assert before != after
    return unified_patch(LEXER, before, after)


def test_layer_holds_the_source_with_its_bug(images: Images, bug: str, tmp_path: Path):
    layer = tmp_path / "x.sqsh"
    build_layer(images.source, bug, layer)
    assert "import re  # a bug" in layer_file(layer, LEXER)
    assert layer_file(layer, LEXER) == layer_file(images.layer, LEXER).replace("import re", "import re  # a bug", 1)


def test_layers_are_bit_reproducible(images: Images, bug: str, tmp_path: Path):
    digests = set()
    for number, umask in enumerate((0o022, 0o077, 0o002)):
        former = os.umask(umask)
        try:
            build_layer(images.source, bug, tmp_path / f"{number}.sqsh")
        finally:
            os.umask(former)
        digests.add(sha256_file(tmp_path / f"{number}.sqsh"))
    assert len(digests) == 1
    build_layer(images.source, "", tmp_path / "without.sqsh")
    assert sha256_file(tmp_path / "without.sqsh") not in digests


def test_layer_in_the_sandbox_is_one_clean_commit(images: Images, bug: str, tmp_path: Path):
    build_layer(images.source, bug, tmp_path / "x.sqsh")
    with Sandbox(images.environment, tmp_path / "x.sqsh") as sandbox:
        assert sandbox.run("git status --porcelain").output == ""
        assert sandbox.run("git log --format='%an %ad %s' --date=iso-strict").output == (
            "swedag 2000-01-01T00:00:00+00:00 base\n"
        )
        assert sandbox.run("git grep -n '# a bug' HEAD | wc -l").output == "1\n"
        assert sandbox.run("find . -name '*.rej' -o -name '*.orig' -o -path './.git/hooks/*'").output == ""


def test_ignored_files_of_the_source_are_committed_too(images: Images, tmp_path: Path):
    folder = tmp_path / "pkg-1.0"
    folder.mkdir()
    (folder / ".gitignore").write_text("*.egg-info\n")
    (folder / "pkg.egg-info").write_text("generated")
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o700)
    with tarfile.open(tmp_path / "pkg-1.0.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    build_layer(tmp_path / "pkg-1.0.tar.gz", "", tmp_path / "pkg.sqsh")
    with Sandbox(images.environment, tmp_path / "pkg.sqsh") as sandbox:
        assert sandbox.run("git ls-files").output == ".gitignore\npkg.egg-info\nscript\n"
        assert sandbox.run("stat -c '%a %n' script .gitignore").output == "755 script\n644 .gitignore\n"


def test_patch_that_does_not_apply_leaves_no_layer(images: Images, tmp_path: Path):
    patch = unified_patch(LEXER, "not the file\n", "something else\n")
    with pytest.raises(SwedagError, match=r"layer x: its bug.*\n.*patch (failed|does not apply)"):
        build_layer(images.source, patch, tmp_path / "x.sqsh")
    assert list(tmp_path.iterdir()) == []


def test_archives_that_are_no_sdist_are_named(tmp_path: Path):
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"half a download")
    with pytest.raises(SwedagError, match=r"broken\.tar\.gz: not a readable sdist"):
        build_layer(broken, "", tmp_path / "x.sqsh")
    flat = tmp_path / "flat.tar.gz"
    with tarfile.open(flat, "w:gz") as tar:
        tar.add(broken, "a")
        tar.add(broken, "b")
    with pytest.raises(SwedagError, match=r"flat\.tar\.gz: not an sdist"):
        build_layer(flat, "", tmp_path / "x.sqsh")


def test_missing_file_of_a_layer_is_named(images: Images):
    with pytest.raises(SwedagError, match="no/such"):
        layer_file(images.layer, "no/such.py")


def test_environment_python_is_the_one_on_the_path(images: Images):
    with Sandbox(images.environment, images.layer) as sandbox:
        assert sandbox.run("python -c 'import sys; print(sys.prefix)'").output == "/opt/env\n"
        assert sandbox.run("python -c 'import pytest, sqlparse; print(sqlparse.__file__)'").output == (
            "/testbed/sqlparse/__init__.py\n"
        )
        assert sandbox.run("mkdir -p src/only_in_src && cd / && python -c 'import only_in_src'").exit_code == 0


def test_byte_code_of_system_and_environment_is_used(images: Images):
    with Sandbox(images.environment, images.layer) as sandbox:
        loaded = sandbox.run("python -v -c 'import pytest' 2>&1 | grep -o 'code object from .*'").output.splitlines()
    assert len(loaded) > 100
    assert [line for line in loaded if "/testbed" not in line and "pyc" not in line] == []


def test_apptainer_reads_the_definition_of_the_image(images: Images):
    command = [find_apptainer(), "inspect", "--deffile", str(images.environment)]
    assert "Bootstrap: localimage" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_failed_build_shows_the_log_and_leaves_nothing(images: Images, tmp_path: Path):
    definition = tmp_path / "broken.def"
    definition.write_text(
        f"Bootstrap: localimage\nFrom: {images.environment}\n%arguments\n    OS=x\n    WHEELS=x\n"
        "%post\n    echo {{ OS }} {{ WHEELS }} >/dev/null\n    echo this is the reason >&2\n    exit 3\n"
    )
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    output = tmp_path / "out" / "broken.sif"
    with pytest.raises(SwedagError, match=r"environment broken: `apptainer` ended.*(?s:.*)this is the reason"):
        environment.main(images.environment, tmp_path / "none.tar", definition, output)
    assert list(output.parent.iterdir()) == []


def test_release_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(SwedagError, match=r"sqlparse==0\.0\.0\.dev999: its sdist could not be fetched"):
        sources.main("sqlparse==0.0.0.dev999", tmp_path / "x.tar.gz")
    settings = json.dumps({"requirements": ["pytest==0.0.0.dev999"]})
    with pytest.raises(SwedagError, match=r"pytest==0\.0\.0\.dev999: not all wheels could be fetched"):
        wheels.main(settings, tmp_path / "x.tar")
    assert list(tmp_path.iterdir()) == []


def test_unreachable_mirror_is_named(tmp_path: Path):
    with pytest.raises(SwedagError, match=r"operating system bookworm: http://127\.0\.0\.1:9/debian"):
        system.main("bookworm", tmp_path / "os.sif", mirror="http://127.0.0.1:9/debian")
    assert list(tmp_path.iterdir()) == []
