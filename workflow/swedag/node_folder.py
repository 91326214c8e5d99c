"""Temporary folders on a node's own disk or in its memory, of which nothing stays when their owner is killed.

Beside each folder lies a file that its owner has locked. The kernel frees the lock however the owner ends, so whoever
makes the next folder there finds those of the dead and removes them; a living owner's are left alone. Locks of this
kind hold between the processes of one node, which is where such folders are.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "swedag-"
SUFFIX = ".owned"


@contextmanager
def node_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """An empty folder `swedag-<name>-…` in `parent` (default: $TMPDIR), for as long as the block lasts."""
    place = parent or Path(tempfile.gettempdir())
    remove_orphans(place)
    descriptor, mark = _claim(place, name)
    folder = _folder_of(mark)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        mark.unlink(missing_ok=True)
        os.close(descriptor)


def remove_orphans(place: Path) -> None:
    """Remove what dead processes of this user have left in `place`."""
    for mark in place.glob(f"{PREFIX}*{SUFFIX}"):
        try:
            descriptor = os.open(mark, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # another user's, or removed by now
            continue
        try:
            if _locked(descriptor):
                shutil.rmtree(_folder_of(mark), ignore_errors=True)
                mark.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _claim(place: Path, name: str) -> tuple[int, Path]:
    """A locked file of ours, as an open descriptor and a path."""
    while True:
        descriptor, path = tempfile.mkstemp(prefix=f"{PREFIX}{name}-", suffix=SUFFIX, dir=place)
        # Somebody who looks for orphans may lock and remove the file before we have locked it.
        if _locked(descriptor) and os.fstat(descriptor).st_nlink:
            return descriptor, Path(path)
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder_of(mark: Path) -> Path:
    return mark.with_suffix("")
