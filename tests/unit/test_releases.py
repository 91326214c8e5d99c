"""Pairs of releases: their ids and sources, and what of their difference is code, tests, news, or made by the build."""

import tarfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from swedag.releases import ReleasesSettings, compare


def sdist(folder: Path, version: str, files: dict[str, bytes]) -> Path:
    root = folder / f"pkg-{version}"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    with tarfile.open(folder / f"pkg-{version}.tar.gz", "w:gz") as tar:
        tar.add(root, root.name)
    return folder / f"pkg-{version}.tar.gz"


def test_difference_is_split_into_code_tests_and_news(tmp_path: Path):
    common = {"pkg/data.bin": b"\0one", "tests/data.bin": b"\0one", "same.py": b"x = 1\n"}
    older = sdist(tmp_path, "1.0", common | {
        "pkg/code.py": b"x = 1\n", "pkg/gone.py": b"y = 2\n", "tests/test_code.py": b"def test(): pass\n",
        "tests/test_gone.py": b"def test(): pass\n", "CHANGES.rst": b"1.0\n", "PKG-INFO": b"Version: 1.0\n",
        "pkg.egg-info/SOURCES.txt": b"code.py\n",
    })  # fmt: skip
    newer = sdist(tmp_path, "1.1", common | {
        "pkg/code.py": b"x = 2\n", "pkg/new name.py": b"z = 3\n", "tests/test_code.py": b"def test(): assert 1\n",
        "tests/helper.py": b"h = 1\n", "CHANGES.rst": b"1.1\n  Mends x.\n1.0\n", "PKG-INFO": b"Version: 1.1\n",
        "pkg/data.bin": b"\0two", "tests/data.bin": b"\0two", "pkg.egg-info/SOURCES.txt": b"code.py\nnew.py\n",
    })  # fmt: skip
    difference = compare(older, newer)
    for name in ("pkg/code.py", "pkg/gone.py", "pkg/new name.py", "CHANGES.rst"):
        assert name in difference.patch and name not in difference.test_patch
    for name in ("tests/test_code.py", "tests/test_gone.py", "tests/helper.py", "GIT binary patch"):
        assert name in difference.test_patch and name not in difference.patch
    for name in ("PKG-INFO", "egg-info", "same.py", "pkg/data.bin"):
        assert name not in difference.patch + difference.test_patch
    assert difference.test_files == ["tests/test_code.py"]
    assert difference.news == "1.1\n  Mends x."


def test_ids_and_sources_are_known_before_anything_runs():
    settings = ReleasesSettings(kind="releases", environment="e", pairs={"pkg": ["1.0..1.1", "1.1..1.2rc1"]})
    assert settings.instance_ids() == ["pkg-1.0.to-1.1", "pkg-1.1.to-1.2rc1"]
    assert settings.sources() == ["pkg-1.0", "pkg-1.1", "pkg-1.2rc1"]
    assert settings.source_of("pkg-1.1.to-1.2rc1") == "pkg-1.1"


@pytest.mark.parametrize("versions", ["1.0", "1.0..", "..1.0", "1.0..1.0", "1.0..2.0 --index-url x"])
def test_what_is_no_pair_is_refused(versions: str):
    with pytest.raises(ValidationError, match="is not a pair of versions"):
        ReleasesSettings(kind="releases", environment="e", pairs={"pkg": [versions]})
