"""A lock between machines: a folder made by mkdir, which is atomic on file systems where flock is not reliable.

Its owner writes a new heartbeat into it every few seconds. Who waits and sees the same heartbeat for too long, by its
own clock, takes the lock over: its owner is dead. So it is, too, when its process is gone from this machine, or when
Slurm has started the owner's job anew. Should an owner only have been asleep, two do the same work, so what is done
under a lease must be safe to do twice: write to a name of its own, then rename.
"""

import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DEAD_SECONDS = 60.0
BEATS_PER_LIFE = 6
WANTED = "wanted"  # a file that asks the owner to stop


@contextmanager
def lease(
    folder: Path,
    say: Callable[[str], None] = lambda message: None,
    dead_seconds: float = DEAD_SECONDS,
    newest_wins: bool = False,
) -> Iterator[None]:
    """Hold the lock `folder`; wait while its owner lives. `say` is told whom we wait for, and of takeovers.

    Where the newest wins, the owner gets a SIGTERM from its own heart as soon as another one waits, or has taken over.
    """
    token = f"{_this_process()}, {secrets.token_hex(4)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    _acquire(folder, token, say, dead_seconds, newest_wins)
    ended = threading.Event()
    heart = threading.Thread(
        target=_beat, args=(folder, token, ended, dead_seconds / BEATS_PER_LIFE, newest_wins), daemon=True
    )
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


@contextmanager
def claim(work: Path, dead_seconds: float = DEAD_SECONDS) -> Iterator[None]:
    """Be the only process in a work folder. One that is there from an earlier start of the same job, which nobody waits
    for any more (its Snakemake was killed), is told to stop, and what it has journaled until then is ours."""

    def say(message: str) -> None:
        print(f"{work}: {message}", file=sys.stderr, flush=True)  # noqa: T201

    with lease(work / "lock", say, dead_seconds, newest_wins=True):
        yield


def _acquire(folder: Path, token: str, say: Callable[[str], None], dead_seconds: float, newest_wins: bool) -> None:
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
                if newest_wins:
                    with suppress(FileNotFoundError):  # the owner has just left
                        (folder / WANTED).touch()
        silent = time.monotonic() - since > dead_seconds
        if silent or _known_dead(told):
            why = f"gave no sign of life for {dead_seconds:g} s" if silent else "is dead"
            say(f"{told or 'another process'} {why}: its lock is taken over")
            grave = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
            with suppress(FileNotFoundError):  # another one was faster
                folder.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
            continue
        time.sleep(min(1.0, dead_seconds / BEATS_PER_LIFE))


def _beat(folder: Path, token: str, ended: threading.Event, seconds: float, newest_wins: bool) -> None:
    number, told_to_stop = 0, False
    while not ended.wait(seconds):
        owner = _owner(_heartbeat(folder))
        if newest_wins and not told_to_stop and (owner not in (token, "") or (folder / WANTED).exists()):
            told_to_stop = True
            os.kill(os.getpid(), signal.SIGTERM)
        if owner != token:
            if owner:
                return
            continue  # a file server that is away for a moment, or one who is taking over
        number += 1
        with suppress(OSError):
            _write(folder, token, number)


def _this_process() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{socket.gethostname()}, process {os.getpid()}, {f'Slurm job {job}' if job else 'no Slurm job'}"


def _known_dead(owner: str) -> bool:
    """Whether an owner cannot be alive: its process is gone from this machine, or its job has been started anew."""
    parts = owner.split(", ")
    if len(parts) != 4 or not parts[1].removeprefix("process ").isdigit():
        return False
    host, process, job, _ = parts
    here, mine, my_job = _this_process().split(", ")
    if host == here:
        return process != mine and not _runs(process.removeprefix("process "))
    return job == my_job != "no Slurm job"


def _runs(process: str) -> bool:
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
