"""One attempt: carries out the steps of a scaffold with a model and a sandbox, and records what was said.

Raises EndpointError or SandboxError when the machinery failed; then nothing may be concluded about the model.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from swedag.images.instance import layer_file
from swedag.instances import Instance
from swedag.rollouts.endpoint import Endpoint, Sampling
from swedag.rollouts.settings import RolloutSettings
from swedag.sandbox import Limits, Sandbox, SandboxError
from swedag.scaffolds import begin
from swedag.scaffolds.protocol import (
    Ask,
    Compute,
    ContextFullError,
    Execute,
    Executed,
    Finish,
    Load,
    ReadFile,
    Reply,
    Store,
)
from swedag.trajectory import Message, Rollout

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One rollout to make: an instance in one run, with its own seed. No layer: the environment image is whole."""

    instance: Instance
    run: int
    policy: str
    seed: int
    environment: Path
    layer: Path | None


class Workplace:
    """The repository of an attempt. A sandbox is started by `begin` or for the first command; a layer's files are read
    without one."""

    def __init__(self, job: Job, limits: Limits, threads: Executor) -> None:
        self._job, self._limits, self._threads = job, limits, threads
        self._sandbox: Sandbox | None = None
        self._closed = False
        self._starting = threading.Lock()

    def begin(self) -> None:
        """Start the sandbox in the meantime; a failure shows at the first command."""
        self._threads.submit(self._started)

    async def execute(self, step: Execute) -> Executed:
        return await self._in_thread(self._execute, step)

    async def read(self, step: ReadFile) -> str:
        return await self._in_thread(self._read, step)

    async def load(self, step: Load) -> bytes | None:
        return await self._in_thread(self._load, step)

    async def store(self, step: Store) -> str:
        return await self._in_thread(self._store, step)

    async def compute(self, step: Compute) -> Any:
        return await self._in_thread(step.function)

    async def close(self) -> None:
        """End the sandbox, even one that is starting or running a command for an attempt that was cancelled."""
        await self._in_thread(self._close)

    async def _in_thread(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        call = partial(function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _started(self) -> Sandbox:
        with self._starting:
            if self._closed:
                raise SandboxError("the attempt has ended")
            if self._sandbox is None:
                self._sandbox = Sandbox(self._job.environment, self._job.layer, self._limits).__enter__()
        return self._sandbox

    def _execute(self, step: Execute) -> Executed:
        result = self._started().run(step.command, step.seconds)
        return Executed(result.output, result.exit_code, result.timed_out)

    def _load(self, step: Load) -> bytes | None:
        try:
            return self._started().read(step.path)
        except FileNotFoundError:
            return None

    def _store(self, step: Store) -> str:
        try:
            self._started().write(step.path, step.content)
        except OSError as error:
            return str(error)
        return ""

    def _read(self, step: ReadFile) -> str:
        if self._sandbox is None and self._job.layer is not None:
            return _pristine(self._job.layer, step.path)
        return self._started().read(f"/testbed/{step.path}").decode(errors="replace")

    def _close(self) -> None:
        with self._starting:
            self._closed = True
            if self._sandbox is not None:
                self._sandbox.close()


@lru_cache(maxsize=1024)
def _pristine(layer: Path, path: str) -> str:
    return layer_file(layer, path)


@dataclass
class Spoken:
    """What has been said so far, and what it cost."""

    messages: tuple[Message, ...] = ()
    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    dollars: float = 0.0


async def attempt(job: Job, settings: RolloutSettings, endpoint: Endpoint, threads: Executor) -> Rollout:
    """Run the scaffold to its end."""
    started = time.monotonic()
    spoken, temperature = Spoken(), settings.temperature_of(job.run)
    workplace = Workplace(job, settings.sandbox, threads)
    sampling = Sampling(temperature, settings.top_p, settings.max_tokens, job.seed)
    if settings.scaffold.early_sandbox:
        workplace.begin()
    try:
        finish = await _carry_out(job, settings, sampling, endpoint, workplace, spoken)
    finally:
        await workplace.close()
    return Rollout(
        instance_id=job.instance.instance_id,
        run=job.run,
        policy=job.policy,
        scaffold=settings.scaffold.kind,
        seed=job.seed,
        temperature=temperature,
        messages=list(finish.conversation or spoken.messages),
        patch=finish.patch,
        exit=finish.exit,
        error=finish.remark,
        repeated=finish.repeated,
        turns=spoken.turns,
        prompt_tokens=spoken.prompt_tokens,
        completion_tokens=spoken.completion_tokens,
        cached_tokens=spoken.cached_tokens,
        dollars=spoken.dollars,
        seconds=round(time.monotonic() - started, 3),
    )


async def _carry_out(
    job: Job,
    settings: RolloutSettings,
    sampling: Sampling,
    endpoint: Endpoint,
    workplace: Workplace,
    spoken: Spoken,
) -> Finish:
    steps = begin(job.instance, settings.scaffold)
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Ask):
                    answer: Any = await _ask(step, sampling, endpoint, spoken)
                elif isinstance(step, Execute):
                    answer = await workplace.execute(step)
                elif isinstance(step, Load):
                    answer = await workplace.load(step)
                elif isinstance(step, Store):
                    answer = await workplace.store(step)
                elif isinstance(step, Compute):
                    answer = await workplace.compute(step)
                else:
                    answer = await workplace.read(step)
            except ContextFullError as full:
                step = steps.throw(full)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        finish: Finish = stop.value
        return finish
    finally:
        steps.close()


async def _ask(question: Ask, sampling: Sampling, endpoint: Endpoint, spoken: Spoken) -> Reply:
    """Ask and keep the account. Turns differ in their seeds, lest equal prompts be answered alike for ever."""
    spoken.messages = question.messages
    answer = await endpoint.chat(question, replace(sampling, seed=(sampling.seed + spoken.turns) % 2**31))
    spoken.messages = (*question.messages, Message(role="assistant", content=answer.reply.text))
    spoken.turns += 1
    spoken.prompt_tokens += answer.prompt_tokens
    spoken.completion_tokens += answer.completion_tokens
    spoken.cached_tokens += answer.cached_tokens
    spoken.dollars += answer.dollars
    return replace(answer.reply, tokens=answer.completion_tokens)
