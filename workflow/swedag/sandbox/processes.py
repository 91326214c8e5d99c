"""Processes of a sandbox as the host sees them, read from /proc: who descends from whom, since when, how large.

A pid can be given to another process between two looks, so signals go through a pidfd, after a second look at the
start time.
"""

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    pid: int
    started: int  # clock ticks since boot
    threads: int
    private_bytes: int  # resident, anonymous


def now() -> int:
    """The present in clock ticks since boot, as start times are given."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)


def look(pid: int) -> Process | None:
    """The process, or None when it has ended (a zombie has)."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
        memory = (PROC / str(pid) / "statm").read_bytes().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold spaces and brackets; the fields that follow it do not.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in b"ZX":
        return None
    return Process(pid, int(fields[19]), int(fields[17]), (int(memory[1]) - int(memory[2])) * PAGE)


def children(pid: int) -> list[int]:
    """Pids of the children of all threads of `pid`."""
    found: list[int] = []
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            try:
                found += map(int, (task / "children").read_bytes().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants(pid: int) -> Iterator[int]:
    """Pids below `pid`, parents before children."""
    waiting = deque(children(pid))
    while waiting:
        child = waiting.popleft()
        yield child
        waiting.extend(children(child))


def inner_pids(pid: int) -> list[int]:
    """Pids of the process in each pid namespace that it is in, the host's first; [] when it has ended."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return next((list(map(int, line.split()[1:])) for line in status.splitlines() if line.startswith("NSpid:")), [])


def proportional_bytes(pid: int) -> int:
    """Memory of a process with each shared page divided among those who share it; 0 when it has ended."""
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def send(process: Process, number: signal.Signals) -> None:
    """Signal exactly this process, if it still runs."""
    with _handle(process) as handle:
        if handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)


def wait_for_end(process: Process, deadline: float) -> None:
    """Return when the process has ended, or at `deadline`: the kernel takes a second to free some gigabytes."""
    with _handle(process) as handle:
        if handle is not None:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll(max(0.0, deadline - time.monotonic()) * 1000)


@contextmanager
def _handle(process: Process) -> Iterator[int | None]:
    """A pidfd of exactly this process; None when it has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        same = look(process.pid)
        yield handle if same is not None and same.started == process.started else None
    finally:
        os.close(handle)


def started_by(root: int, since: int, but: int) -> list[Process]:
    """Descendants of `root` that started at tick `since` or later, and `but` (a shell) with all its newer children.

    What an older background process starts belongs to that one and is left alone.
    """
    found = []
    waiting = deque(children(root))
    while waiting:
        pid = waiting.popleft()
        process = look(pid)
        if process is not None and (process.started >= since or pid == but):
            found.append(process)
            waiting.extend(children(pid))
    return found


def end_all(find: Callable[[], list[Process]], seconds: float, passes: int = 100) -> bool:
    """Kill what `find` returns until it finds nothing; False if after `seconds` some are left.

    All are stopped before the first is killed: who is stopped starts no other, so that a fork bomb runs dry.
    """
    deadline = time.monotonic() + seconds
    stopped: set[Process] = set()
    for _ in range(passes):
        fresh = {process.pid for process in stopped}
        new = [process for process in find() if process.pid not in fresh]
        if not new:
            break
        for process in new:
            send(process, signal.SIGSTOP)
        stopped.update(new)
    while found := find():
        if time.monotonic() > deadline:
            return False
        for process in found:
            send(process, signal.SIGKILL)
        for process in found:
            wait_for_end(process, deadline)
    return True
