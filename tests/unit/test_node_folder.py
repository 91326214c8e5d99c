"""Folders of the living are left alone, of the dead nothing stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swedag.node_folder import node_folder, remove_orphans

HOLD = (
    "import sys; from pathlib import Path; from swedag.node_folder import node_folder\n"
    "with node_folder('work', Path(sys.argv[1])) as folder:\n"
    "    (folder / 'layer').write_text('x'); print(folder, flush=True); sys.stdin.read()"
)


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_nothing_stays_of_a_folder_that_was_left(tmp_path: Path):
    with node_folder("work", tmp_path) as folder:
        (folder / "file").write_text("x")
    with pytest.raises(RuntimeError), node_folder("work", tmp_path):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_killed_owners_folder_goes_and_a_living_ones_stays(tmp_path: Path):
    living, kept = holder(tmp_path)
    dead, left = holder(tmp_path)
    other = tmp_path / "swedag-of-somebody"
    other.mkdir()
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    assert (left / "layer").exists()
    with node_folder("work", tmp_path) as mine:
        assert not left.exists() and (kept / "layer").exists()
        assert {path for path in tmp_path.iterdir() if path.is_dir()} == {kept, mine, other}
    living.communicate("")
    assert list(tmp_path.iterdir()) == [other]


def test_many_at_once_do_not_take_each_others(tmp_path: Path):
    holders = [holder(tmp_path) for _ in range(8)]
    for _ in range(3):
        remove_orphans(tmp_path)
    assert all((folder / "layer").exists() for _, folder in holders)
    for process, _ in holders:
        process.communicate("")
    assert not list(tmp_path.iterdir())
