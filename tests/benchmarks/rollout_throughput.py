"""Agent loops beside vLLM's own load generator: tokens a second of the same server for the same prompts.

    python -m tests.benchmarks.rollout_throughput

In: nothing; model and images are made on first use. In turns, swedag's loops (mini-swe-agent, a real sandbox for each
rollout, a command in it at every turn, journal and all) and `vllm bench serve` with every prompt that the loops asked,
the same lengths of reply and sampling, as many at once. Out: a table on the terminal, and the same with all figures in
results/benchmarks/rollout_throughput.{md,json}. Targets are printed as met or missed, never asserted.

The server keeps no prefixes, lest the second of two runs find all prompts of the first in its cache. The model has 0.4
million random weights, so that next to nothing hides what the loops cost; its replies are noise of a fixed length, of
which the first two letters that stand together are run as a command.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from swedag.artifacts import write_json, write_text
from swedag.errors import SwedagError
from swedag.images.instance import build_layer
from swedag.instances import Instance
from swedag.journal import Journal
from swedag.rollouts.attempt import Job
from swedag.rollouts.endpoint import Answer, Endpoint, Sampling, connect
from swedag.rollouts.settings import RolloutSettings
from swedag.rollouts.shard import Shard, _sample
from swedag.rollouts.throttle import Throttle
from swedag.scaffolds.protocol import Ask
from swedag.serving import Server, serve, tool_python
from swedag.trajectory import Message
from tests.benchmarks import machine
from tests.integration import images as built
from tests.integration.models import random_model

FOLDER = Path("results/benchmarks")
SHARE, MILLISECONDS = 0.9, 10.0  # targets
SCAFFOLD = {
    "kind": "mini",
    "system_template": "You are a shell.",
    "instance_template": "{{task}}",
    "action_regex": r"\A[\s\S]*?([a-z]{2})[\s\S]*\Z",
    "max_format_errors": 0,
}


@dataclass(frozen=True)
class Call:
    """A question of one attempt, when it was asked and answered, in seconds."""

    messages: tuple[Message, ...]
    attempt: int
    asked: float
    answered: float
    tokens: int


@dataclass(frozen=True)
class Watched(Endpoint):
    """An endpoint that notes every call."""

    calls: list[Call] = field(default_factory=list)

    async def chat(self, question: Ask, sampling: Sampling) -> Answer:
        asked = time.perf_counter()
        answer = await super().chat(question, sampling)
        self.calls.append(
            Call(question.messages, id(asyncio.current_task()), asked, time.perf_counter(), answer.completion_tokens)
        )
        return answer


@dataclass
class Round:
    """Tokens a second by the loops and by the generator; of the loops also the milliseconds per turn."""

    loops: float
    generator: float
    tokens: int
    model_ms: float
    between_ms: float
    between_p90_ms: float
    load: str


def main(
    concurrency: Annotated[int, typer.Option(help="Rollouts, and requests of the generator, at once")] = 4,
    rollouts: Annotated[int, typer.Option(help="Rollouts of a round")] = 16,
    turns: Annotated[int, typer.Option(help="Turns of a rollout")] = 12,
    tokens: Annotated[int, typer.Option(help="Tokens of a reply")] = 64,
    rounds: Annotated[int, typer.Option(help="Rounds, after one that is not counted")] = 3,
) -> None:
    """Measure in turns, on one server."""
    console = Console(stderr=True)
    state = machine.describe()
    settings = RolloutSettings.model_validate(
        {
            "scaffold": SCAFFOLD | {"max_turns": turns},
            "max_tokens": tokens,
            "concurrency": concurrency,
            "serving": {
                "device": "cpu",
                "max_model_len": 4096,
                "kv_cache_gb": 1,
                "extra_arguments": ["--no-enable-prefix-caching"],
            },
        }
    )
    done: list[Round] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        console.print("images and model (made on first use)")
        jobs = _jobs(folder, rollouts)
        with serve(random_model(), settings.serving, folder / "server.log") as server:
            for number in range(rounds + 1):
                console.print(f"round {number} of {rounds}" if number else "warm-up")
                load = machine.load()
                calls = asyncio.run(_loops(jobs, settings, server, folder / f"{number}.jsonl"))
                generator = _generator(calls, server, concurrency, folder)
                if number:
                    done.append(_round(calls, generator, load))
    state["load average at the end"] = machine.load()
    text = report(done, state, f"{rollouts} rollouts of {turns} turns, {tokens} tokens a reply, {concurrency} at once")
    write_text(FOLDER / "rollout_throughput.md", text)
    write_json(FOLDER / "rollout_throughput.json", {"machine": state, "rounds": [asdict(one) for one in done]})
    print(text)


def _jobs(folder: Path, rollouts: int) -> dict[str, Job]:
    layer = folder / "layer.sqsh"
    build_layer(built.released_source("sqlparse==0.5.3"), "", layer)
    instance = Instance(
        instance_id="sqlparse-0.5.3.eval-000", repo="sqlparse", version="0.5.3", problem_statement="Say two letters.",
        patch="", FAIL_TO_PASS=["t"], PASS_TO_PASS=[], environment="py311", source="sdist:sqlparse==0.5.3",
        test_command="pytest", test_files=["t.py"],
    )  # fmt: skip
    environment = built.pytest_only_environment()
    return {str(run): Job(instance, run, "random", 1000 * run, environment, layer) for run in range(rollouts)}


async def _loops(jobs: dict[str, Job], settings: RolloutSettings, server: Server, journal: Path) -> list[Call]:
    plain = connect(server.base_url, server.api_key, server.model, 600, settings.concurrency)
    endpoint = Watched(plain.client, plain.model, plain.seconds, {"ignore_eos": True})
    with Journal(journal) as kept:
        shard = Shard(jobs, settings, kept)
        await _sample(shard, endpoint, Throttle(settings.concurrency, settings.concurrency), server)
        if shard.pending() or shard.failures:
            raise SwedagError(f"{len(shard.pending())} rollouts were not made; {shard.failures}")
    return sorted(endpoint.calls, key=lambda call: call.asked)


def _generator(calls: list[Call], server: Server, concurrency: int, folder: Path) -> float:
    """Tokens a second of `vllm bench serve` with the same prompts, in their order, and as long replies."""
    pairs = zip(_texts(calls, server), calls, strict=True)
    rows = [{"prompt": prompt, "output_tokens": call.tokens} for prompt, call in pairs]
    data = folder / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = random_model()
    arguments = {
        "backend": "openai",
        "base-url": server.base_url.removesuffix("/v1"),
        "endpoint": "/v1/completions",
        "model": server.model,
        "tokenizer": model,
        "dataset-name": "custom",
        "dataset-path": data,
        "custom-output-len": -1,
        "num-prompts": len(rows),
        "max-concurrency": concurrency,
        "temperature": 1,
        # As each of ours has one, for which vLLM samples row by row; the generator knows one for all.
        "extra-body": json.dumps({"seed": 0}),
        "result-dir": folder,
        "result-filename": "bench.json",
    }
    words = [str(word) for name, value in arguments.items() for word in (f"--{name}", value)]
    flags = ["--skip-chat-template", "--disable-shuffle", "--ignore-eos", "--save-result", "--disable-tqdm"]
    command = [str(tool_python()), "-m", "vllm.entrypoints.cli.main", "bench", "serve", *words, *flags]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OPENAI_API_KEY": server.api_key}
    ran = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    if ran.returncode:
        raise SwedagError(f"vllm bench serve failed: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    result = json.loads((folder / "bench.json").read_text())
    expected = sum(call.tokens for call in calls)
    if result["completed"] != len(rows) or result["total_output_tokens"] != expected:
        raise SwedagError(f"the generator made {result['total_output_tokens']} tokens in place of {expected}")
    return float(result["output_throughput"])


def _texts(calls: list[Call], server: Server) -> list[str]:
    """The prompts as the model saw them, template and all."""
    root = server.base_url.removesuffix("/v1")
    texts = []
    with httpx.Client(headers=server.headers(), timeout=60, trust_env=False) as client:
        for call in calls:
            messages = [message.model_dump() for message in call.messages]
            asked = {"model": server.model, "messages": messages, "add_generation_prompt": True}
            tokens = client.post(f"{root}/tokenize", json=asked).raise_for_status().json()["tokens"]
            body = {"model": server.model, "tokens": tokens}
            texts.append(client.post(f"{root}/detokenize", json=body).raise_for_status().json()["prompt"])
    return texts


def _round(calls: list[Call], generator: float, load: str) -> Round:
    seconds = max(call.answered for call in calls) - min(call.asked for call in calls)
    tokens = sum(call.tokens for call in calls)
    of_attempt = defaultdict(list)
    for call in calls:
        of_attempt[call.attempt].append(call)
    between = [
        1000 * (after.asked - before.answered) for made in of_attempt.values() for before, after in pairwise(made)
    ]
    return Round(
        loops=tokens / seconds,
        generator=generator,
        tokens=tokens,
        model_ms=1000 * statistics.median(call.answered - call.asked for call in calls),
        between_ms=statistics.median(between),
        between_p90_ms=statistics.quantiles(between, n=10)[8],
        load=load,
    )


def report(rounds: list[Round], state: dict[str, str], what: str) -> str:
    """The table, the targets, and what they were measured on."""
    head = ["round", "loops, tokens/s", "vllm bench, tokens/s", "share, %", "model, ms", "between, ms", "p90", "load"]
    rows = [
        [str(number), f"{one.loops:.0f}", f"{one.generator:.0f}", f"{100 * one.loops / one.generator:.0f}",
         f"{one.model_ms:.0f}", f"{one.between_ms:.1f}", f"{one.between_p90_ms:.1f}", one.load]
        for number, one in enumerate(rounds, 1)
    ]  # fmt: skip
    share = statistics.median(one.loops / one.generator for one in rounds)
    between = statistics.median(one.between_ms for one in rounds)
    return "\n".join(
        [
            "# Agent loops beside vLLM's load generator",
            "",
            f"{what}.",
            "",
            machine.table(head, rows),
            "",
            f"- {100 * share:.0f} % of the generator's tokens a second (target {100 * SHARE:.0f}): {_met(share >= SHARE)}",
            f"- {between:.1f} ms of sandbox and scaffold between two calls (target {MILLISECONDS:g}): "
            f"{_met(between < MILLISECONDS)}",
            "",
            "Model: a call, median. Between: from a reply to the next question of its rollout, median and ninth decile.",
            "",
            "; ".join(f"{key} {value}" for key, value in state.items()),
            "",
        ]
    )


def _met(yes: bool) -> str:
    return "met" if yes else "MISSED"


if __name__ == "__main__":
    try:
        typer.run(main)
    except SwedagError as error:
        sys.exit(str(error))
