"""Sandboxes side by side: what a command, a start and a stop cost, and how much memory one takes.

    python -m tests.benchmarks.sandbox_latency

In: nothing; images are built on first use. Out: a table on the terminal, and the same with all figures in
results/benchmarks/sandbox_latency.{md,json}. Targets are printed as met or missed, never asserted: they are about a
quiet machine. A system that does not run here is a row that says why.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from swedag.artifacts import write_json, write_text
from swedag.errors import SwedagError
from swedag.images.instance import build_layer
from swedag.sandbox import processes
from tests.benchmarks import machine, peers
from tests.benchmarks.contestants import CONTESTANTS, PEERS, Contestant, Images, Run
from tests.integration import images as built

COMMAND = "/bin/true"  # a process; `true` would be the shell's own
WARM_UP = 3  # commands per sandbox that are not counted
LEAST_STARTS = 3
FACTOR, MILLISECONDS = 50, 3.0  # targets
FAILURES = (SwedagError, OSError, subprocess.SubprocessError, httpx.HTTPError)


@dataclass
class Level:
    """One system at one number of sandboxes. Times are medians but for `p99_ms`; memory is that of one sandbox."""

    system: str
    concurrent: int
    median_ms: float
    p99_ms: float
    commands: int
    start_s: float
    stop_s: float
    starts: int
    memory_mb: float
    tmpfs_mb: float
    load: str


def main(
    concurrent: Annotated[list[int], typer.Option(help="Numbers of sandboxes at a time")] = [1, 4, 8],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="Each level runs commands at least so long")] = 3,
    commands: Annotated[int, typer.Option(help="and at least so many")] = 100,
) -> None:
    """Measure every system at every level, one after the other."""
    console = Console(stderr=True)
    state = machine.describe()
    levels: list[Level] = []
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        console.print("images (built on first use)")
        layer = Path(folder) / "sqlparse.sqsh"
        build_layer(built.released_source("sqlparse==0.5.3"), "", layer)
        images = Images(built.pytest_only_environment(), layer)
        for name, contestant in CONTESTANTS.items():
            try:
                console.print(f"{name}, warm-up")
                with contestant(images) as run:  # what is done once per machine is done here
                    _check(run)
                for number in concurrent:
                    console.print(f"{name}, {number} at a time")
                    levels.append(measure(name, contestant, images, number, seconds, commands))
            except FAILURES as error:
                absent[name] = str(error)
    state["load average at the end"] = machine.load()
    text = report(levels, absent, state)
    write_text(peers.FOLDER / "sandbox_latency.md", text)
    record = {"machine": state, "levels": [asdict(level) for level in levels], "did not run": absent}
    write_json(peers.FOLDER / "sandbox_latency.json", record)
    print(text)


def measure(name: str, contestant: Contestant, images: Images, concurrent: int, seconds: float, commands: int) -> Level:
    """Rounds of `concurrent` sandboxes that start together, run commands together, and stop together."""
    latencies: list[float] = []
    starts: list[float] = []
    stops: list[float] = []
    memory: list[float] = []
    tmpfs: list[float] = []
    load = machine.load()
    rounds = -(-LEAST_STARTS // concurrent)
    share = -(-commands // (rounds * concurrent))

    def one(together: threading.Barrier) -> None:
        try:
            began = time.perf_counter()
            with contestant(images) as run:
                _check(run)
                starts.append(time.perf_counter() - began)
                for _ in range(WARM_UP):
                    _check(run)
                together.wait()
                latencies.extend(_latencies(run, seconds / rounds, share))
                together.wait()
                _check(run, "sleep 2")
                together.wait()
                ending = time.perf_counter()
            stops.append(time.perf_counter() - ending)
        except BaseException:
            together.abort()
            raise

    for _ in range(rounds):
        before = _shared_memory()
        together = threading.Barrier(concurrent + 1)
        with ThreadPoolExecutor(concurrent) as pool:
            running = [pool.submit(one, together) for _ in range(concurrent)]
            try:
                together.wait()
                together.wait()
                time.sleep(1.5)  # in the midst of the `sleep 2` that every sandbox runs now
                memory.append(_proportional_memory() / concurrent)
                tmpfs.append((_shared_memory() - before) / concurrent)
                together.wait()
            except threading.BrokenBarrierError:
                pass  # the sandbox that failed says why below
        failed = [error for future in running if (error := future.exception())]
        for error in sorted(failed, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
    return Level(
        system=name,
        concurrent=concurrent,
        median_ms=1000 * statistics.median(latencies),
        p99_ms=1000 * statistics.quantiles(latencies, n=100, method="inclusive")[98],
        commands=len(latencies),
        start_s=statistics.median(starts),
        stop_s=statistics.median(stops),
        starts=len(starts),
        memory_mb=statistics.median(memory) / 1e6,
        tmpfs_mb=statistics.median(tmpfs) / 1e6,
        load=load,
    )


def report(levels: list[Level], absent: dict[str, str], state: dict[str, str]) -> str:
    """The table, the targets, and what they were measured on."""
    ours = {level.concurrent: level for level in levels if level.system == "swedag"}
    head = ["system", "sandboxes", "median, ms", "times swedag", "p99, ms", "commands", "start, s", "stop, s"]
    rows = []
    for level in sorted(levels, key=lambda level: level.concurrent):
        factor = f"{level.median_ms / ours[level.concurrent].median_ms:.0f}" if level.concurrent in ours else ""
        figures = [f"{level.median_ms:.2f}", factor, f"{level.p99_ms:.2f}", str(level.commands)]
        figures += [f"{level.start_s:.2f}", f"{level.stop_s:.2f}", f"{level.memory_mb:.0f}", f"{level.tmpfs_mb:.0f}"]
        rows.append([level.system, str(level.concurrent), *figures])
    rows += [[name, "did not run: " + reason.replace("|", "/").replace("\n", " ")] for name, reason in absent.items()]
    return "\n".join(
        [
            f"# `{COMMAND}` in a sandbox",
            "",
            machine.table([*head, "processes, MB", "tmpfs, MB"], rows),
            "",
            *targets(levels, ours),
            "",
            "Start: until the first command has ended. Processes: proportional set size of all that belongs to one",
            "sandbox, while it runs `sleep`. tmpfs: growth of shared memory by one sandbox (also what others do then).",
            f"The first {WARM_UP + 1} commands of a sandbox are not counted.",
            "",
            "; ".join(f"{key} {value}" for key, value in state.items()),
            "",
        ]
    )


def targets(levels: list[Level], ours: dict[int, Level]) -> list[str]:
    """One line per target and level, met or missed."""
    lines = []
    for number, own in sorted(ours.items()):
        others = {level.system: level for level in levels if level.concurrent == number}
        if "mini-swe-agent" in others:
            factor = others["mini-swe-agent"].median_ms / own.median_ms
            lines.append(
                f"mini-swe-agent's median is {factor:.0f} times ours (target {FACTOR}): {_met(factor >= FACTOR)}"
            )
        lines.append(f"median {own.median_ms:.2f} ms (target {MILLISECONDS:g}): {_met(own.median_ms <= MILLISECONDS)}")
        fastest = min((others[name] for name in PEERS if name in others), key=lambda level: level.start_s, default=None)
        if fastest:
            met = _met(own.start_s <= fastest.start_s)
            lines.append(f"start {own.start_s:.2f} s (fastest peer, {fastest.system}: {fastest.start_s:.2f}): {met}")
        lines = [line if line.startswith("- ") else f"- {number} at a time: {line}" for line in lines]
    return lines


def _met(yes: bool) -> str:
    return "met" if yes else "MISSED"


def _latencies(run: Run, seconds: float, least: int) -> list[float]:
    """Seconds that each command took, for `seconds` and at least `least` commands."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < until:
        began = time.perf_counter()
        exit_code = run(COMMAND)
        found.append(time.perf_counter() - began)
        if exit_code != 0:
            raise SwedagError(f"{COMMAND} ended with exit code {exit_code}")
    return found


def _check(run: Run, command: str = COMMAND) -> None:
    exit_code = run(command)
    if exit_code != 0:
        raise SwedagError(f"{command} ended with exit code {exit_code}")


def _proportional_memory() -> int:
    """Bytes of everything that this process has started, shared pages divided among those who share them."""
    return sum(map(processes.proportional_bytes, processes.descendants(os.getpid())))


def _shared_memory() -> int:
    """Bytes that the whole machine keeps in tmpfs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


if __name__ == "__main__":
    try:
        typer.run(main)
    except SwedagError as error:
        sys.exit(str(error))
