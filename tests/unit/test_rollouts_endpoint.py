"""Endpoints of others: what they are sent, what they cost, what is refused for good, and keys that are written nowhere."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from swedag.errors import SwedagError
from swedag.journal import Journal
from swedag.rollouts import EndpointSettings
from swedag.rollouts.budget import Budget, BudgetError, money_spent
from swedag.rollouts.endpoint import Answer, EndpointError, Sampling, connect_outside
from swedag.rollouts.keys import rollout_key
from swedag.rollouts.settings import Prices, decisive, sources
from swedag.scaffolds.protocol import Ask
from swedag.trajectory import Message
from tests.unit.test_rollouts import Handler, completion, job, send, serving, settings

KEY = "sk-secret-0123456789"
PRICES = Prices(input=100, cached_input=10, output=1000)
QUESTION = Ask((Message(role="user", content="hi"),))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)


def endpoint(url: str = "http://127.0.0.1:9/v1", **changes: Any) -> EndpointSettings:
    return EndpointSettings.model_validate(
        {"base_url": url, "model": "big", "key_variable": "TEACHER_KEY", "retries": 0, **changes}
    )


def chat(handle: Handler, budget: Budget | None = None, calls: int = 1, **changes: Any) -> list[Answer | BaseException]:
    """What as many calls at once come to, each of 2 bytes and at most 16 tokens of reply."""

    async def call(url: str) -> list[Answer | BaseException]:
        model = connect_outside(endpoint(url, **changes), 30, calls, budget)
        asked = [model.chat(QUESTION, Sampling(0.5, 1.0, 16, 3)) for _ in range(calls)]
        async with model.client:
            return await asyncio.gather(*asked, return_exceptions=True)

    with serving(handle) as url:
        return asyncio.run(call(url))


def one(handle: Handler, budget: Budget | None = None, **changes: Any) -> Answer:
    [found] = chat(handle, budget, **changes)
    if isinstance(found, BaseException):
        raise found
    return found


def test_parameters_are_added_to_the_request_replaced_and_left_out() -> None:
    seen = []

    def handle(request: Any, _: int) -> None:
        seen.append((request.asked, request.headers["Authorization"]))
        send(request, 200, completion())

    one(handle)
    one(handle, parameters={"max_tokens": None, "max_completion_tokens": 99, "seed": None, "reasoning_effort": "low"})
    (usual, key), (changed, _) = seen
    assert key == f"Bearer {KEY}"
    assert usual == {
        "model": "big",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 16,
        "seed": 3,
    }
    added = {"max_completion_tokens": 99, "reasoning_effort": "low"}
    assert changed == {name: value for name, value in usual.items() if name not in ("max_tokens", "seed")} | added


def test_the_time_that_an_endpoint_asks_for_is_waited() -> None:
    arrived = []

    def handle(request: Any, number: int) -> None:
        arrived.append(time.monotonic())
        if number:
            return send(request, 200, completion())
        request.send_response(429)
        request.send_header("Retry-After", "1")
        request.send_header("Content-Length", "0")
        return request.end_headers()

    assert one(handle, retries=1).reply.text == "hello"
    assert arrived[1] - arrived[0] >= 1  # the client's own first pause is at most half a second


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_no_call_will_escape_ends_the_job_and_repeats_no_key(status: int) -> None:
    def handle(request: Any, _: int) -> None:
        send(request, status, json.dumps({"error": {"message": f"no: {request.headers['Authorization']}"}}))

    with pytest.raises(SwedagError, match=f"refuses all calls: status {status}: .*\\[key\\]") as refused:
        one(handle)
    assert not isinstance(refused.value, EndpointError)
    assert KEY not in str(refused.value)


def test_an_empty_account_is_told_from_too_many_calls() -> None:
    body = '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    with pytest.raises(SwedagError, match="refuses all calls"):
        one(lambda r, _: send(r, 429, body))


def test_an_endpoint_that_repeats_the_key_in_garbage_does_not_get_it_into_messages() -> None:
    with pytest.raises(EndpointError, match=r"not a chat completion: you sent \[key\]"):
        one(lambda r, _: send(r, 200, f"you sent {KEY}"))


def test_a_key_that_is_not_set_is_missed_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(SwedagError, match="set the environment variable TEACHER_KEY"):
        connect_outside(endpoint(), 1, 1, None)
    assert "TEACHER_KEY" not in os.environ


@pytest.mark.parametrize(
    "bad",
    [
        {"base_url": "https://me:password@example.org/v1"},
        {"base_url": "https://example.org/v1?api-key=secret"},
        {"base_url": "example.org/v1"},
        {"key_variable": "sk-proj-abc"},
        {"dollars_per_million": {"input": 1}},
    ],
)
def test_settings_that_would_leak_or_mislead_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        endpoint(**bad)


# --- money: a call of QUESTION costs at worst (2 bytes + 16 of template) · 100 + 16 · 1000 dollars per million


WORST = (18 * 100 + 16 * 1000) / 1e6
PAID = (7 * 100 + 2 * 1000) / 1e6


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def spend(
    journal: Path, limit: float | None, handle: Handler, calls: int
) -> tuple[list[Answer | BaseException], float]:
    with Journal(journal) as kept:
        found = chat(handle, Budget(PRICES, limit, kept), calls)
        return found, money_spent(kept)


def test_a_call_costs_what_its_tokens_cost_and_cached_ones_less(journal: Path) -> None:
    usage = {
        "prompt_tokens": 70,
        "completion_tokens": 2,
        "total_tokens": 72,
        "prompt_tokens_details": {"cached_tokens": 60},
    }
    [answer], spent = spend(journal, None, lambda r, _: send(r, 200, completion(usage=usage)), 1)
    assert isinstance(answer, Answer)
    assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (70, 60, 2)
    assert answer.dollars == spent == pytest.approx((10 * 100 + 60 * 10 + 2 * 1000) / 1e6)


def test_many_calls_at_once_stay_within_the_limit_and_use_it_up(journal: Path) -> None:
    limit = WORST + 5.5 * PAID
    found, spent = spend(journal, limit, lambda r, _: send(r, 200, completion()), 20)
    answered = [one for one in found if isinstance(one, Answer)]
    refused = [one for one in found if isinstance(one, BudgetError)]
    assert (len(answered), len(refused)) == (6, 14)
    assert spent == pytest.approx(6 * PAID)
    assert spent <= limit
    assert "of max_dollars" in str(refused[0])


def test_what_was_spent_counts_in_the_next_start_and_a_higher_limit_goes_on(journal: Path) -> None:
    def answer(request: Any, _: int) -> None:
        send(request, 200, completion())

    spend(journal, WORST, answer, 1)
    [refused], spent = spend(journal, WORST, answer, 1)
    assert isinstance(refused, BudgetError)
    assert spent == pytest.approx(PAID)
    [answered], spent = spend(journal, WORST + PAID, answer, 1)
    assert isinstance(answered, Answer)
    assert spent == pytest.approx(2 * PAID)


@pytest.mark.parametrize(
    ("status", "body", "dollars"),
    [(500, "", 0), (429, "", 0), (200, "{torn", WORST), (200, completion(usage=None), WORST)],
)
def test_refusals_cost_nothing_and_answers_without_an_account_the_worst(
    journal: Path, status: int, body: str, dollars: float
) -> None:
    [found], spent = spend(journal, None, lambda r, _: send(r, status, body), 1)
    assert isinstance(found, EndpointError)
    assert spent == pytest.approx(dollars)


def test_the_longest_reply_that_counts_is_the_one_that_is_sent(journal: Path) -> None:
    with Journal(journal) as kept:
        budget = Budget(PRICES, 1.0, kept)
        with pytest.raises(BudgetError):
            one(lambda r, _: send(r, 200, completion()), budget, parameters={"max_completion_tokens": 10_000})


# --- what such rollouts depend on


def test_prices_keys_patience_and_servers_decide_nothing() -> None:
    plain = decisive(settings(), endpoint())
    terms = {"key_variable": None, "retries": 3, "dollars_per_million": {"input": 1, "output": 2}}
    same = settings(max_dollars=3, concurrency=1, serving={"max_model_len": 64})
    assert decisive(same, endpoint(**terms)) == plain
    for other in (endpoint(model="small"), endpoint("http://127.0.0.1:8/v1"), endpoint(parameters={"seed": None})):
        assert decisive(settings(), other) != plain
    assert decisive(settings(serving={"max_model_len": 64}), None) != decisive(settings(), None)


def test_the_key_of_a_record_names_the_endpoint(tmp_path: Path) -> None:
    row = job(tmp_path)
    keys = {rollout_key(row, settings(), model) for model in (endpoint(), endpoint(model="small"), "digest")}
    assert len(keys) == 3
    assert rollout_key(row, settings(max_dollars=1), endpoint(retries=1)) in keys


SERVING = ("__init__.py", "command.py", "cpu_server.py", "process.py", "settings.py")


@pytest.mark.parametrize("kind", ["codeact", "moatless", "mini", "single_edit"])
def test_rollouts_depend_on_their_own_scaffold_and_endpoints_on_no_server(kind: str) -> None:
    chosen = settings(scaffold={"kind": kind})
    own, outside = ({path.split("/swedag/")[1] for path in sources(chosen, one)} for one in (None, endpoint()))
    beside = {path for path in own if path.startswith("scaffolds/")} - {
        "scaffolds/__init__.py",
        "scaffolds/protocol.py",
        "scaffolds/stuck.py",
    }
    assert beside
    assert all(path.startswith(f"scaffolds/{kind}") for path in beside)
    assert outside < own
    assert (
        {path for path in own if path.startswith("serving/")}
        == {"serving/" + path for path in SERVING}
        <= own - outside
    )
