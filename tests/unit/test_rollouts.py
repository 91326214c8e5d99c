"""Rollouts without a model: a faulty endpoint's every fault has a name, and no fault is ever the model's."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from swedag.artifacts import write_jsonl
from swedag.digest import digest
from swedag.errors import SwedagError
from swedag.images.record import ImageRecord
from swedag.instances import Instance
from swedag.journal import Journal
from swedag.rollouts import RolloutSettings, endpoint, step
from swedag.rollouts.attempt import Job
from swedag.rollouts.endpoint import Answer, EndpointError, Sampling, connect
from swedag.rollouts.keys import derive_seed, rollout_key
from swedag.rollouts.shard import Shard, _make_all
from swedag.rollouts.step import available
from swedag.rollouts.throttle import Throttle, cache_usage
from swedag.scaffolds.protocol import Ask, ContextFullError, Reply
from swedag.trajectory import Message, Rollout

CHOICE: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
COMPLETION: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
}
UNUSED = {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}
Handler = Callable[[BaseHTTPRequestHandler, int], None]


@contextmanager
def serving(handle: Handler) -> Iterator[str]:
    """A local HTTP server; `handle` gets the request and how many came before it."""
    count = iter(range(1000))

    class Faulty(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            handle(self, next(count))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(request: BaseHTTPRequestHandler, status: int, body: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Retry-After-Ms", "1")
    request.end_headers()
    request.wfile.write(body.encode())


def written(request: BaseHTTPRequestHandler, data: bytes) -> bool:
    """Whether the client still takes what is written."""
    try:
        request.wfile.write(data)
    except OSError:
        return False
    return True


def chat(url: str, seconds: float = 30, retries: int = 0) -> Answer:
    async def call() -> Answer:
        model = connect(url, "key", "m", seconds, connections=1, retries=retries)
        async with model.client:
            return await model.chat(Ask((Message(role="user", content="hi"),)), Sampling(0.5, 1.0, 16, 3))

    return asyncio.run(call())


def chat_with(handle: Handler, **options: Any) -> Answer:
    with serving(handle) as url:
        return chat(url, **options)


def completion(**changes: Any) -> str:
    return json.dumps(COMPLETION | changes)


def test_a_reply_and_its_tokens() -> None:
    assert chat_with(lambda r, _: send(r, 200, completion())) == Answer(Reply("hello"), 7, 2)


def test_a_reply_at_the_token_limit_is_marked() -> None:
    cut = completion(choices=[CHOICE | {"finish_reason": "length"}])
    assert chat_with(lambda r, _: send(r, 200, cut)).reply.truncated


@pytest.mark.parametrize("content", ["", None])
def test_an_empty_reply_is_the_models_own(content: str | None) -> None:
    empty = completion(choices=[CHOICE | {"message": {"role": "assistant", "content": content}}])
    assert chat_with(lambda r, _: send(r, 200, empty)).reply == Reply("")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_refusal_is_tried_again(status: int) -> None:
    answer = chat_with(lambda r, n: send(r, *((status, "{}") if n < 2 else (200, completion()))), retries=2)
    assert answer.reply.text == "hello"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (429, '{"error": "slow down"}', "status 429"),
        (500, "<html>oops</html>", "status 500"),
        (400, '{"error": {"message": "unknown model"}}', "refused: .*unknown model"),
        (200, "{not json", "not a chat completion"),
        (200, '{"error": "out of memory"}', "not a chat completion"),
        (200, completion(choices=[]), "no choices"),
        (200, completion(usage=None), "count its tokens"),
        (200, "", "not a chat completion: nothing"),
        (200, completion(choices=[CHOICE | {"message": {"role": "assistant", "content": ""}}], usage=UNUSED), "empty"),
    ],
)
def test_no_usable_answer_is_a_failure_of_the_endpoint(status: int, body: str, message: str) -> None:
    with pytest.raises(EndpointError, match=message):
        chat_with(lambda r, _: send(r, status, body))


def test_a_prompt_that_does_not_fit_is_told_from_other_refusals() -> None:
    body = '{"error": {"message": "This model\'s maximum context length is 64 tokens."}}'
    with pytest.raises(ContextFullError, match="64 tokens"):
        chat_with(lambda r, _: send(r, 400, body))


def test_a_slow_endless_answer_is_cut_by_time() -> None:
    def trickle(request: BaseHTTPRequestHandler, _: int) -> None:
        send(request, 200, "{")
        while written(request, b" "):
            time.sleep(0.01)

    with pytest.raises(EndpointError, match=r"request_seconds = 0\.3"):
        chat_with(trickle, seconds=0.3)


def test_a_fast_endless_answer_is_cut_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_BODY_BYTES", 100_000)

    def flood(request: BaseHTTPRequestHandler, _: int) -> None:
        send(request, 200, "{")
        while written(request, b" " * 65536):
            pass

    with pytest.raises(EndpointError, match="longer than 100000 bytes"):
        chat_with(flood)


def test_an_absent_server_is_a_failure_of_the_endpoint() -> None:
    with serving(lambda r, _: None) as url:
        pass
    with pytest.raises(EndpointError, match="Connect"):
        chat(url)


def instance(number: int) -> Instance:
    return Instance(
        instance_id=f"pkg-1.0.eval-{number:03d}",
        repo="pkg",
        version="1.0",
        problem_statement="wrong",
        patch="",
        FAIL_TO_PASS=["t"],
        PASS_TO_PASS=[],
        environment="pkg",
        source="sdist:pkg==1.0",
        test_command="pytest",
        test_files=["t.py"],
    )


def settings(**changes: Any) -> RolloutSettings:
    return RolloutSettings.model_validate({"scaffold": {"kind": "single_edit"}, "attempts": 2, **changes})


def job(folder: Path, number: int = 0, run: int = 0) -> Job:
    for name in ("env.sif", "layer.sqsh"):
        if not (folder / name).exists():
            (folder / name).write_text(name)
    return Job(instance(number), run, "policy", 5, folder / "env.sif", folder / "layer.sqsh")


def test_an_instance_without_a_published_image_has_no_rollout() -> None:
    pulls = [
        ImageRecord(instance_id=instance(0).instance_id, image="a", outcome="converted"),
        ImageRecord(instance_id=instance(1).instance_id, image="b", outcome="missing"),
    ]
    assert available([instance(0), instance(1), instance(2)], pulls) == [instance(0), instance(2)]


def test_a_layer_that_is_gone_is_named_with_what_brings_it_back(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "i.jsonl", [instance(0)])
    (tmp_path / "images/envs").mkdir(parents=True)
    (tmp_path / "images/envs/pkg.sif").touch()
    with pytest.raises(SwedagError, match=r"pkg-1\.0\.eval-000\.sqsh: no such file; .* Delete the shard-<n>\.images"):
        step.main(
            settings().model_dump_json(), "p", tmp_path / "i.jsonl", tmp_path / "images", 0, 0,
            tmp_path / "work", tmp_path / "out.jsonl", model=tmp_path,
        )  # fmt: skip


def test_a_whole_image_needs_no_layer(tmp_path: Path) -> None:
    layered = job(tmp_path)
    whole = replace(layered, layer=None)
    (tmp_path / "layer.sqsh").unlink()
    assert rollout_key(whole, settings(), "m") != rollout_key(
        replace(layered, layer=layered.environment), settings(), "m"
    )


def test_seeds_are_fixed_by_seed_instance_and_run() -> None:
    assert derive_seed(0, "a", 0) == derive_seed(0, "a", 0)
    assert len({derive_seed(seed, name, run) for seed in (0, 1) for name in "ab" for run in range(8)}) == 32


def test_the_key_of_a_record_changes_with_all_it_depends_on_and_with_nothing_else(tmp_path: Path) -> None:
    one = job(tmp_path)
    key = rollout_key(one, settings(), "model")
    assert key == rollout_key(one, settings(concurrency=1, attempts=9), "model")
    digest.cache_clear()
    (tmp_path / "layer.sqsh").write_text("rebuilt")
    others = [
        rollout_key(one, settings(), "model"),
        rollout_key(one, settings(temperature=0.5), "model"),
        rollout_key(one, settings(), "another model"),
        rollout_key(job(tmp_path, run=1), settings(), "model"),
        rollout_key(job(tmp_path, number=1), settings(), "model"),
    ]
    assert len({key, *others}) == 6


def test_the_digest_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    found = set()
    for name, text in (("a", "1"), ("a", "2"), ("b", "2")):
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / name).write_text(text)
        found.add(digest(folder))
    assert len(found) == 3


def test_first_temperature_is_that_of_run_0_alone() -> None:
    chosen = settings(temperature=0.8, first_temperature=0)
    assert [chosen.temperature_of(run) for run in range(3)] == [0, 0.8, 0.8]


def test_the_throttle_follows_the_cache() -> None:
    throttle = Throttle(bound=64)
    assert throttle.limit == 16
    throttle.adjust(0.2)
    assert throttle.limit == 20
    throttle.adjust(0.8)
    assert throttle.limit == 20
    throttle.adjust(0.95)
    assert throttle.limit == 15
    for _ in range(50):
        throttle.adjust(1.0)
    assert throttle.limit == 1
    for _ in range(50):
        throttle.adjust(0.0)
    assert throttle.limit == 64


def test_cache_usage_is_that_of_the_fullest_engine() -> None:
    text = '# HELP x\nvllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.5\nother 3\n'
    assert cache_usage(text) == 0.5
    assert cache_usage("") == 0.0


class Machinery:
    """Stands where attempts are made: the outcomes of each job's attempts, one after the other."""

    def __init__(self, outcomes: dict[str, list[Any]]) -> None:
        self.outcomes = outcomes
        self.made: list[str] = []

    def __call__(self, key: str) -> asyncio.Task[Rollout]:
        self.made.append(key)
        return asyncio.create_task(self._attempt(self.outcomes[key].pop(0)))

    async def _attempt(self, outcome: Any) -> Rollout:
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "hang":
            await asyncio.Event().wait()
        return rollout()


def rollout() -> Rollout:
    return Rollout(
        instance_id="pkg-1.0.eval-000",
        run=0,
        policy="policy",
        scaffold="single_edit",
        seed=5,
        temperature=1,
        messages=[],
        patch="",
        exit="submitted",
        turns=1,
        prompt_tokens=1,
        completion_tokens=1,
        seconds=0,
    )


def run_shard(folder: Path, outcomes: dict[str, list[Any]], event: str = "") -> tuple[Shard, Machinery]:
    """A shard with the given outcomes; `event` ("stop" or "lost") happens once every attempt that can end has ended."""
    machinery = Machinery(outcomes)

    async def go() -> None:
        stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        lost = asyncio.Event()
        task = asyncio.create_task(_make_all(shard, machinery, Throttle(8), stop, lost))
        while event and len(shard.journal) < len(outcomes) - 1:
            await asyncio.sleep(0.001)
        if event:
            lost.set() if event == "lost" else stop.set_result("SIGTERM")
        await task

    with Journal(folder / "journal.jsonl") as journal:
        jobs = {key: job(folder, number) for number, key in enumerate(outcomes)}
        shard = Shard(jobs, settings(grace_seconds=0.01), journal)
        asyncio.run(go())
    return shard, machinery


def attempts_of(shard: Shard, key: str) -> int:
    payload = shard.journal.get(key)
    assert payload is not None
    return int(payload["attempts"])


def test_a_failure_of_machinery_is_tried_again_and_counted(tmp_path: Path) -> None:
    shard, machinery = run_shard(tmp_path, {"a": [EndpointError("status 500"), None], "b": [None]})
    assert sorted(machinery.made) == ["a", "a", "b"]
    assert [attempts_of(shard, key) for key in "ab"] == [2, 1]


def test_attempts_end_at_the_cap_and_a_later_run_of_the_job_tries_anew(tmp_path: Path) -> None:
    shard, machinery = run_shard(tmp_path, {"a": [EndpointError("one"), ZeroDivisionError("two")]})
    assert machinery.made == ["a", "a"]
    assert "a" not in shard.journal
    assert shard.spent("a") == (2, "ZeroDivisionError: two")
    shard, _ = run_shard(tmp_path, {"a": [None]})
    assert attempts_of(shard, "a") == 3


def test_what_is_in_the_journal_is_not_made_again(tmp_path: Path) -> None:
    run_shard(tmp_path, {"a": [None], "b": [None]})
    _, machinery = run_shard(tmp_path, {"a": [], "b": [], "c": [None]})
    assert machinery.made == ["c"]


def test_a_mistake_in_the_input_ends_the_job_at_once(tmp_path: Path) -> None:
    with pytest.raises(SwedagError, match="no target"):
        run_shard(tmp_path, {"a": [SwedagError("no target")]})


def test_a_lost_server_costs_the_running_attempts_only(tmp_path: Path) -> None:
    shard, _ = run_shard(tmp_path, {"a": [None], "b": ["hang"]}, event="lost")
    assert "a" in shard.journal
    assert shard.spent("b") == (1, "the model server was lost")
    assert shard.pending() == ["b"]


def test_a_job_told_to_stop_keeps_what_is_finished_and_blames_nobody(tmp_path: Path) -> None:
    with pytest.raises(SwedagError, match=r"1 of 2 rollouts finished.*run the same command again"):
        run_shard(tmp_path, {"a": [None], "b": ["hang"]}, event="stop")
    shard, machinery = run_shard(tmp_path, {"a": [], "b": [None]})
    assert machinery.made == ["b"]
    assert attempts_of(shard, "b") == 1
