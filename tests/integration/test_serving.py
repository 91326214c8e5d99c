"""Real vLLM servers on the CPU: seeded sampling under load, and the ways in which a server does not come up."""

import asyncio
import shutil
from pathlib import Path

import openai
import psutil
import pytest

from swedag.rollouts import throttle
from swedag.serving import Server, ServingError, ServingSettings, serve
from tests.integration.models import random_model

pytestmark = pytest.mark.integration
SETTINGS = ServingSettings(device="cpu", max_model_len=1024, kv_cache_gb=0.1, max_num_seqs=32)
REQUESTS, PROMPT = 32, "value = compute(a, b)\n" * 8


def test_many_seeded_requests_give_the_same_replies_in_any_company(tmp_path: Path) -> None:
    # Together the prompts are longer than one batch of prefill, which kills an engine that splits seeded prompts.
    with serve(random_model(), SETTINGS, tmp_path / "log") as server:
        together = asyncio.run(_replies(server, concurrency=REQUESTS))
        alone = asyncio.run(_replies(server, concurrency=1))
        processes = psutil.Process(server.guard.pid).children(recursive=True)
        stranger = openai.OpenAI(base_url=server.base_url, api_key="another")
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()  # nor would we be answered by a neighbour's server on our port
        assert server.alive()
    assert len(set(together)) == REQUESTS
    assert together == alone
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def _replies(server: Server, concurrency: int) -> list[str]:
    room = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:

        async def reply(number: int) -> str:
            async with room:
                messages = [{"role": "user", "content": f"{number}\n{PROMPT}"}]
                answer = await client.chat.completions.create(
                    model=server.model, messages=messages, max_tokens=12, seed=number
                )
            return answer.choices[0].message.content

        return await asyncio.gather(*(reply(number) for number in range(REQUESTS)))


def test_the_throttle_follows_the_use_of_a_real_servers_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long replies fill a cache that holds three of them: fewer rollouts may run; when they have ended, all may."""
    monkeypatch.setattr(throttle, "INTERVAL_SECONDS", 0.02)
    small = SETTINGS.model_copy(update={"kv_cache_gb": 0.007, "extra_arguments": ["--no-enable-prefix-caching"]})
    with serve(random_model(), small, tmp_path / "log") as server:
        allowed = asyncio.run(_allowed(server, requests=8))
    full = min(allowed)
    assert allowed[0] == 32
    assert full < 16
    assert allowed[-1] == 64


async def _allowed(server: Server, requests: int) -> list[int]:
    """How many rollouts may run, whenever that changes: while so many long replies are made, and until all may run."""
    limits = throttle.Throttle(bound=64, limit=32)
    seen = [limits.limit]
    metrics = f"{server.base_url.removesuffix('/v1')}/metrics"
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        replies = asyncio.gather(
            *(
                client.chat.completions.create(
                    model=server.model,
                    messages=[{"role": "user", "content": f"{number}\n{PROMPT}"}],
                    max_tokens=700,
                    extra_body={"ignore_eos": True},
                )
                for number in range(requests)
            )
        )
        watcher = asyncio.create_task(throttle.watch(limits, metrics, server.headers()))
        while not replies.done() or limits.limit < limits.bound:
            await asyncio.sleep(0.01)
            if limits.limit != seen[-1]:
                seen.append(limits.limit)
        watcher.cancel()
        await replies
    return seen


def test_broken_weights_are_reported_with_what_vllm_said(tmp_path: Path) -> None:
    broken = shutil.copytree(random_model(), tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ServingError, match=r"(?s)ended before it was ready.*[Ss]afetensor"):  # noqa: SIM117
        with serve(broken, SETTINGS, tmp_path / "log"):
            pass


def test_a_server_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    hasty = SETTINGS.model_copy(update={"startup_seconds": 1.0})
    with pytest.raises(ServingError, match="startup_seconds = 1"):  # noqa: SIM117
        with serve(random_model(), hasty, tmp_path / "log"):
            pass
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(random_model()) in (p.info["cmdline"] or [])]
