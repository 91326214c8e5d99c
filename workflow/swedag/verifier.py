"""Verifier scores: rollouts and a verifier in, one score per rollout out, read off vLLM's log-probabilities.

score = p(YES) / (p(YES) + p(NO)), from the first tokens of the two words where the verifier's answer begins (paper,
section 4; True and False in the form for patches). The released scoring script reads " YES" and " NO" off, though it
trains without the space: `leading_space` does so, too. A rollout that cannot be scored has no score and says why; it is
never 0. One that is too long has none, or is cut as `judgement.fit` does and flagged.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track

from swedag.artifacts import read_jsonl, sha256, write_jsonl
from swedag.errors import SwedagError
from swedag.journal import Journal, code_digest
from swedag.judgement import Asked, Form, fit, opening, question, words
from swedag.lease import claim
from swedag.serving import Server, ServingSettings, serve, served
from swedag.trajectory import Message, Rollout


class ScoreSettings(BaseModel):
    """How scores are read off."""

    model_config = ConfigDict(extra="forbid")

    form: Form = Field("paper", description="What the verifier is shown; as in its training data")
    long: Literal["missing", "cut"] = Field(
        "missing", description="A log beyond max_model_len: no score, or messages left out in its middle, with a flag"
    )
    leading_space: bool = Field(
        False, description='Read off " YES" and " NO", as the released script, not "YES" and "NO"'
    )
    batch: int = Field(64, ge=1, description="Rollouts per request")
    serving: ServingSettings = Field(default_factory=ServingSettings, description="The vLLM server of each job")


class Score(BaseModel):
    """One rollout's score in 0..1, or None and the reason; `cut` if it was judged with messages left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_id: str
    run: int
    score: float | None
    cut: bool = False
    error: str = ""


def main(
    settings: Annotated[str, typer.Option(help="ScoreSettings as JSON")],
    model: Annotated[Path, typer.Option(help="Folder of the verifier")],
    rollouts: Annotated[Path, typer.Option(help="A rollout shard (.jsonl)")],
    work: Annotated[Path, typer.Option(help="Folder for the journal, kept between attempts")],
    output: Annotated[Path, typer.Option(help="Scores (.jsonl)")],
    server_image: Annotated[
        Path | None, typer.Option(help="Apptainer image with vLLM (default: that of the tool environment)")
    ] = None,
) -> None:
    """Score every rollout of a shard with a verifier behind vLLM."""
    chosen = ScoreSettings.model_validate_json(settings)
    rows = read_jsonl(rollouts, Rollout)
    judge = [served(model, server_image), code_digest("verifier")]
    keys = [sha256(json.dumps([settings, *judge, _asked(row, chosen.form)])) for row in rows]
    with claim(work), Journal(work / "journal.jsonl") as journal:
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in journal}
        if missing:
            with serve(model, chosen.serving, work / "server.log", server_image) as server:
                for key, result in score(list(missing.items()), server, chosen):
                    journal.append(key, result)
        found = [journal.get(key) or {} for key in keys]
    write_jsonl(
        output,
        [
            Score.model_validate({"instance_id": row.instance_id, "run": row.run, "score": None, **result})
            for row, result in zip(rows, found, strict=True)
        ],
    )


def _asked(rollout: Rollout, form: Form) -> list[dict[str, str]]:
    return [message.model_dump() for message in question(rollout, form)]


def score(tasks: list[tuple[str, Rollout]], server: Server, chosen: ScoreSettings) -> Any:
    """Yield (key, {"score", "cut", "error"}) of each task, in order."""
    batches = [list(batch) for batch in _batched(tasks, chosen.batch)]
    limit = chosen.serving.max_model_len - 1
    with httpx.Client(headers=server.headers(), timeout=600) as client:
        yes, no = _first_tokens(client, server, chosen)
        for batch in track(batches, "scores", console=Console(stderr=True)):
            prompts = [_prompt(client, server, rollout, chosen, limit) for _, rollout in batch]
            fitting = [i for i, prompt in enumerate(prompts) if len(prompt.tokens) <= limit]
            scores = _scores(client, server, [prompts[i].tokens for i in fitting], yes, no) if fitting else []
            by_position = dict(zip(fitting, scores, strict=True))
            for position, (key, _) in enumerate(batch):
                if position in by_position:
                    yield key, {"score": by_position[position], "cut": prompts[position].cut, "error": ""}
                else:
                    long = f"{len(prompts[position].tokens)} tokens do not fit in {chosen.serving.max_model_len}"
                    yield key, {"score": None, "cut": False, "error": long}


def _prompt(client: httpx.Client, server: Server, rollout: Rollout, chosen: ScoreSettings, limit: int) -> Asked:
    def tokenize(messages: list[Message]) -> list[int]:
        return _tokens(client, server, [message.model_dump() for message in messages], opening(chosen.form))

    if chosen.long == "cut":
        return fit(rollout, chosen.form, limit, tokenize)
    asked = question(rollout, chosen.form)
    return Asked(asked, tokenize(asked))


def _batched(tasks: list[tuple[str, Rollout]], size: int) -> Any:
    iterator = iter(tasks)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def _post(client: httpx.Client, url: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = client.post(url, json=body)
        reply.raise_for_status()
        return dict(reply.json())
    except (httpx.HTTPError, ValueError) as error:
        raise SwedagError(f"scoring: the vLLM server failed: {error}; its log lies in the work folder") from error


def _tokenize(client: httpx.Client, server: Server, body: dict[str, Any]) -> list[int]:
    root = server.base_url.removesuffix("/v1")
    return list(_post(client, f"{root}/tokenize", {"model": server.model, **body})["tokens"])


def _tokens(client: httpx.Client, server: Server, messages: list[dict[str, str]], start: str) -> list[int]:
    tokens = _tokenize(client, server, {"messages": messages, "add_generation_prompt": True})
    if start:
        tokens += _tokenize(client, server, {"prompt": start, "add_special_tokens": False})
    return tokens


def _first_tokens(client: httpx.Client, server: Server, chosen: ScoreSettings) -> tuple[int, int]:
    asked = [f" {word}" if chosen.leading_space else word for word in words(chosen.form)]
    first = [_tokenize(client, server, {"prompt": word, "add_special_tokens": False})[0] for word in asked]
    if first[0] == first[1]:
        raise SwedagError(
            f"scoring: {asked[0]!r} and {asked[1]!r} begin with the same token of this tokenizer; "
            "they cannot be told apart"
        )
    return first[0], first[1]


def _scores(client: httpx.Client, server: Server, prompts: list[list[int]], yes: int, no: int) -> list[float]:
    body = {
        "model": server.model,
        "prompt": prompts,
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
        "logprob_token_ids": [yes, no],
        "return_tokens_as_token_ids": True,
    }
    choices = sorted(
        _post(client, f"{server.base_url}/completions", body)["choices"], key=lambda choice: choice["index"]
    )
    logprobs = [choice["logprobs"]["top_logprobs"][0] for choice in choices]
    return [probability(row[f"token_id:{yes}"], row[f"token_id:{no}"]) for row in logprobs]


def probability(yes: float, no: float) -> float:
    """exp(yes) / (exp(yes) + exp(no)) of two log-probabilities, without overflow."""
    return 1 / (1 + math.exp(min(no - yes, 700)))
