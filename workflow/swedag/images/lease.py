"""A lock between machines: a folder made by mkdir, which is atomic on file systems where flock is not reliable.

Its owner writes a new heartbeat into it every few seconds. Who waits and sees the same heartbeat for too long, by its
own clock, takes the lock over: its owner is dead. Should an owner only have been asleep, two do the same work, so what
is done under a lease must be safe to do twice: write to a name of its own, then rename.
"""

import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DEAD_SECONDS = 60.0
BEATS_PER_LIFE = 6


@contextmanager
def lease(
    folder: Path, say: Callable[[str], None] = lambda message: None, dead_seconds: float = DEAD_SECONDS
) -> Iterator[None]:
    """Hold the lock `folder`; wait while its owner lives. `say` is told whom we wait for, and of takeovers."""
    token = f"{socket.gethostname()}, process {os.getpid()}, {secrets.token_hex(4)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    _acquire(folder, token, say, dead_seconds)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(folder, token, ended, dead_seconds / BEATS_PER_LIFE), daemon=True)
    try:
        _write(folder, token, 0)
        heart.start()
        yield
    finally:
        ended.set()
        if heart.ident:
            heart.join()
        if _owner(_heartbeat(folder)) == token:
            shutil.rmtree(folder, ignore_errors=True)


def _acquire(folder: Path, token: str, say: Callable[[str], None], dead_seconds: float) -> None:
    seen, since, told = None, time.monotonic(), ""
    while True:
        try:
            folder.mkdir()
            return
        except FileExistsError:
            pass
        heartbeat = _heartbeat(folder)
        if heartbeat != seen:
            seen, since = heartbeat, time.monotonic()
            if _owner(heartbeat) != told:
                told = _owner(heartbeat)
                say(f"waiting for {told or 'another process'}")
        elif time.monotonic() - since > dead_seconds:
            say(f"{told or 'another process'} gave no sign of life for {dead_seconds:g} s: its lock is taken over")
            grave = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
            with suppress(FileNotFoundError):  # another one was faster
                folder.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
            continue
        time.sleep(min(1.0, dead_seconds / BEATS_PER_LIFE))


def _beat(folder: Path, token: str, ended: threading.Event, seconds: float) -> None:
    number = 0
    while not ended.wait(seconds):
        if _owner(_heartbeat(folder)) != token:
            return
        number += 1
        with suppress(OSError):  # a file server that is away for a moment
            _write(folder, token, number)


def _write(folder: Path, token: str, number: int) -> None:
    (folder / "heartbeat").write_text(f"{token}\n{number}\n")


def _heartbeat(folder: Path) -> str | None:
    """Read, not looked up: network file systems cache the times of a file for longer than its content."""
    try:
        return (folder / "heartbeat").read_text()
    except OSError:
        return None


def _owner(heartbeat: str | None) -> str:
    return (heartbeat or "").partition("\n")[0]
