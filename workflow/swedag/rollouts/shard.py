"""All rollouts of a shard: many at once from one server, each journaled as it ends, failures of machinery tried again.

A job that is told to stop (SIGTERM), or whose time in Slurm is nearly over, starts no more rollouts, gives the running
ones a grace period and fails; a rerun takes the finished ones from the journal. So does a job that has spent its money,
but it waits for what still runs. The journal also counts the attempts that machinery cost.
"""

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from swedag.errors import SwedagError
from swedag.journal import Journal
from swedag.rollouts.attempt import Job, attempt
from swedag.rollouts.budget import Budget, BudgetError
from swedag.rollouts.endpoint import Endpoint, EndpointError, connect, connect_outside
from swedag.rollouts.settings import EndpointSettings, RolloutSettings
from swedag.rollouts.throttle import Throttle, watch
from swedag.sandbox import SandboxError
from swedag.serving import Server, serve
from swedag.trajectory import Rollout
from swedag.walltime import seconds_left

LOGGER = logging.getLogger("swedag.rollouts")
# For a server and its processes to end, and for Slurm's own delays.
LAST_SECONDS = 30


@dataclass
class Shard:
    """The jobs of a shard by key, where their records are kept, how often machinery failed each in this run, and, when
    the money is spent, the words for that."""

    jobs: dict[str, Job]
    settings: RolloutSettings
    journal: Journal
    advance: Callable[[], None] = lambda: None
    failures: dict[str, int] = field(default_factory=dict)
    broke: str = ""

    def pending(self) -> list[str]:
        return [key for key in self.jobs if key not in self.journal and self.may_try(key)]

    def may_try(self, key: str) -> bool:
        return self.failures.get(key, 0) < self.settings.attempts

    def spent(self, key: str) -> tuple[int, str]:
        """Attempts that machinery has cost a rollout so far, in earlier runs of the job too, and the last reason."""
        payload = self.journal.get(f"{key}/failures") or {"count": 0, "reason": ""}
        return int(payload["count"]), str(payload["reason"])

    def failed(self, key: str, reason: str) -> None:
        self.failures[key] = self.failures.get(key, 0) + 1
        self.journal.append(f"{key}/failures", {"count": self.spent(key)[0] + 1, "reason": reason})
        job = self.jobs[key]
        LOGGER.warning("%s run %d, attempt %d: %s", job.instance.instance_id, job.run, self.failures[key], reason)

    def done(self, key: str, rollout: Rollout) -> None:
        kept = rollout.model_copy(update={"attempts": self.spent(key)[0] + 1})
        self.journal.append(key, kept.model_dump(mode="json"))
        self.advance()


def sample(shard: Shard, model: Path, image: Path | None, log: Path) -> None:
    """Make every pending rollout; a server that is lost is started again, as often as attempts are allowed.

    vLLM is that of an Apptainer `image`, or of the tool environment.
    """
    for _ in range(shard.settings.attempts):
        if not shard.pending():
            return
        with serve(model, shard.settings.serving, log, image) as server, _keeping_sigterm():
            asyncio.run(_from_server(shard, server))


def sample_outside(shard: Shard, chosen: EndpointSettings) -> None:
    """Make every pending rollout with the model of somebody else's endpoint."""
    if shard.pending():
        with _keeping_sigterm():
            asyncio.run(_from_endpoint(shard, chosen))


async def _from_server(shard: Shard, server: Server) -> None:
    settings, throttle = shard.settings, Throttle(shard.settings.concurrency)
    endpoint = connect(server.base_url, server.api_key, server.model, settings.request_seconds, settings.concurrency)
    metrics = f"{server.base_url.removesuffix('/v1')}/metrics"
    watcher = asyncio.create_task(watch(throttle, metrics, server.headers()))
    try:
        await _sample(shard, endpoint, throttle, server)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _from_endpoint(shard: Shard, chosen: EndpointSettings) -> None:
    settings, prices = shard.settings, chosen.dollars_per_million
    budget = Budget(prices, settings.max_dollars, shard.journal) if prices else None
    endpoint = connect_outside(chosen, settings.request_seconds, settings.concurrency, budget)
    await _sample(shard, endpoint, Throttle(settings.concurrency, settings.concurrency), None)


async def _sample(shard: Shard, endpoint: Endpoint, throttle: Throttle, server: Server | None) -> None:
    """Until nothing is pending or the server is lost. SwedagError when told to stop, or when disk or money is short."""
    with ThreadPoolExecutor(shard.settings.concurrency + 1) as threads, _events(server, shard.settings) as (stop, lost):
        make = partial(_start, shard, endpoint, threads)
        try:
            await _make_all(shard, make, throttle, stop, lost)
        finally:
            await endpoint.client.close()


def _start(shard: Shard, endpoint: Endpoint, threads: ThreadPoolExecutor, key: str) -> asyncio.Task[Rollout]:
    return asyncio.create_task(attempt(shard.jobs[key], shard.settings, endpoint, threads))


async def _make_all(
    shard: Shard,
    make: Callable[[str], asyncio.Task[Rollout]],
    throttle: Throttle,
    stop: asyncio.Future[str],
    lost: asyncio.Event,
) -> None:
    waiting = deque(shard.pending())
    running: dict[asyncio.Task[Rollout], str] = {}
    events: list[asyncio.Future[Any]] = [stop, asyncio.create_task(lost.wait())]
    try:
        while (waiting or running) and not stop.done() and not lost.is_set():
            while waiting and len(running) < throttle.limit and not shard.broke:
                key = waiting.popleft()
                running[make(key)] = key
            await asyncio.wait([*running, *events], return_when=asyncio.FIRST_COMPLETED)
            waiting.extend(await _settle(shard, running))
            if shard.broke and not running:
                raise SwedagError(f"{shard.broke}: {_kept(shard)} for the rest, with a higher max_dollars.")
        if stop.done():
            if running:
                await asyncio.wait([*running], timeout=shard.settings.grace_seconds)
            await _settle(shard, running, count=False)
            raise SwedagError(f"told to stop ({stop.result()}): {_kept(shard)} for the rest.")
        for key in running.values():
            shard.failed(key, "the model server was lost")
    finally:
        for task in [*running, *events]:
            task.cancel()
        await asyncio.gather(*running, *events, return_exceptions=True)


def _kept(shard: Shard) -> str:
    finished = sum(key in shard.journal for key in shard.jobs)
    return (
        f"{finished} of {len(shard.jobs)} rollouts finished and kept in {shard.journal.path}; "
        "run the same command again"
    )


async def _settle(shard: Shard, running: dict[asyncio.Task[Rollout], str], count: bool = True) -> list[str]:
    """Keep what has ended and take it out of `running`; the keys to try again.

    Any exception of an attempt is the machinery's, our own mistakes included. Not so a SwedagError of another kind:
    what is wrong with an instance, the disk or a key will not be better at the next try.
    """
    again = []
    for task in [task for task in running if task.done()]:
        key, error = running.pop(task), task.exception()
        if error is None:
            await asyncio.to_thread(shard.done, key, task.result())
        elif isinstance(error, SwedagError) and not isinstance(error, EndpointError | SandboxError | BudgetError):
            raise error
        elif count:
            LOGGER.debug("attempt failed", exc_info=error)
            shard.broke = shard.broke or (str(error) if isinstance(error, BudgetError) else "")
            await asyncio.to_thread(shard.failed, key, f"{type(error).__name__}: {error}")
            if shard.may_try(key):
                again.append(key)
    return again


@contextmanager
def _events(server: Server | None, settings: RolloutSettings) -> Iterator[tuple[asyncio.Future[str], asyncio.Event]]:
    """(told to stop and why, server lost), from SIGTERM or Slurm's clock, and from the end of a server of our own."""
    loop, lost = asyncio.get_running_loop(), asyncio.Event()
    stop: asyncio.Future[str] = loop.create_future()

    def tell(why: str) -> None:
        if not stop.done():
            stop.set_result(why)

    process, left = os.pidfd_open(server.guard.pid) if server else None, seconds_left()
    loop.add_signal_handler(signal.SIGTERM, tell, "SIGTERM")
    if left is not None:
        loop.call_later(left - settings.grace_seconds - LAST_SECONDS, tell, "the job's time is nearly over")
    if process is not None:
        loop.add_reader(process, lost.set)
    try:
        yield stop, lost
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        if process is not None:
            loop.remove_reader(process)
            os.close(process)


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """An event loop leaves SIGTERM at its default, which would end Python on the spot; put the handler back."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
