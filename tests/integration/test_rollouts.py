"""Shards of rollouts on a real server that is killed, told to stop, and broken: nothing is lost, nothing done twice."""

import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from swedag.artifacts import read_jsonl, write_jsonl
from swedag.instances import Instance, Target
from swedag.journal import Journal
from swedag.rollouts.settings import Prices
from swedag.serving import ServingSettings, serve
from swedag.trajectory import Rollout
from tests.integration.images import pytest_only_environment
from tests.integration.models import random_model
from tests.unit.test_rollouts import CHOICE, UNUSED, completion, send, serving, written

pytestmark = pytest.mark.integration
SOURCE = "def total(items):\n    result = 0\n    for item in items:\n        result -= item\n    return result\n"
IDS = [f"pkg-1.0.eval-{number:03d}" for number in range(20)]
RUNS = 3
SETTINGS = {
    "scaffold": {"kind": "single_edit"},
    "max_tokens": 64,
    "concurrency": 4,
    "serving": {"device": "cpu", "max_model_len": 1024, "kv_cache_gb": 0.05},
}


@dataclass(frozen=True)
class Shard:
    """A folder with instances and their layers, and the command that samples them."""

    folder: Path
    model: Path
    name: str = "shard"
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=lambda: SETTINGS)
    endpoint: dict[str, Any] | None = None

    @property
    def journal(self) -> Path:
        return self.folder / self.name / "journal.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    def command(self) -> list[str]:
        options = {
            "settings": json.dumps(self.settings),
            "policy": "random",
            "instances": self.folder / "instances.jsonl",
            "images": self.folder / "images",
            "first-run": 0,
            "last-run": RUNS - 1,
            "work": self.folder / self.name,
            "output": self.output,
        }
        source = ("endpoint", json.dumps(self.endpoint)) if self.endpoint else ("model", self.model)
        words = [(f"--{name}", str(value)) for name, value in [*options.items(), source]]
        return [sys.executable, "-m", "swedag", "rollouts", *itertools.chain(*words)]

    def start(self) -> subprocess.Popen[str]:
        self.started.append(subprocess.Popen(self.command(), stderr=subprocess.PIPE, text=True))
        return self.started[-1]

    def fail(self, process: subprocess.Popen[str]) -> str:
        """What a job said that must fail, and that leaves no output and no server."""
        _, said = process.communicate()
        assert process.returncode == 1, said
        assert not self.output.exists() and not _servers(self.model)
        return " ".join(said.split())

    def finish(self, process: subprocess.Popen[str]) -> list[Rollout]:
        _, said = process.communicate()
        assert process.returncode == 0, said
        return read_jsonl(self.output, Rollout)

    def records(self) -> dict[str, dict]:
        """What the journal holds so far of finished rollouts, by key."""
        if not self.journal.exists():
            return {}
        with Journal(self.journal) as journal:
            return {key: payload for key, payload in journal.items() if "patch" in payload}

    def wait_for(self, count: int, process: subprocess.Popen[str]) -> None:
        _until(lambda: len(self.records()) >= count or process.poll() is not None)
        assert process.poll() is None, process.communicate()


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shard]:
    folder = tmp_path_factory.mktemp("rollouts")
    (folder / "images/envs").mkdir(parents=True)
    (folder / "images/envs/pkg.sif").write_text("not needed: single_edit runs no command")
    (folder / "images/instances").mkdir()
    (folder / "tree/testbed").mkdir(parents=True)
    (folder / "tree/testbed/m.py").write_text(SOURCE)
    for name in IDS:
        command = ["mksquashfs", folder / "tree", folder / f"images/instances/{name}.sqsh", "-quiet", "-no-progress"]
        subprocess.run(command, check=True, capture_output=True)
    write_jsonl(folder / "instances.jsonl", map(_instance, IDS))
    shard = Shard(folder, random_model())
    yield shard
    for process in shard.started:
        process.kill()
        process.wait()


def _instance(name: str) -> Instance:
    return Instance(
        instance_id=name,
        repo="pkg",
        version="1.0",
        problem_statement=f"total is wrong ({name})",
        patch="",
        FAIL_TO_PASS=["test_m.py::test_total"],
        PASS_TO_PASS=[],
        environment="pkg",
        source="sdist:pkg==1.0",
        test_command="pytest",
        test_files=["test_m.py"],
        target=Target(path="m.py", function="total", first_line=1, last_line=5),
    )


@pytest.fixture(scope="module")
def battered(shard: Shard) -> list[Rollout]:
    """The rows of a job that was killed, whose journal was torn, and whose engine was killed in the second try."""
    process = shard.start()
    shard.wait_for(12, process)
    process.kill()
    process.wait()
    _until(lambda: not _servers(shard.model))
    kept = shard.records()
    with shard.journal.open("ab") as journal:
        journal.write(b'{"key": "torn", "payl')

    process = shard.start()
    shard.wait_for(len(kept) + 12, process)
    _engine_below(process.pid).kill()
    rows = shard.finish(process)
    assert not _servers(shard.model)

    made = {(row.instance_id, row.run): row for row in rows}
    for payload in kept.values():
        row = Rollout.model_validate(payload)
        assert made[row.instance_id, row.run] == row, "a finished rollout was made again"
    return rows


def test_kills_of_swedag_and_of_the_engine_lose_nothing(battered: list[Rollout], shard: Shard) -> None:
    assert [(row.instance_id, row.run) for row in battered] == [(name, run) for name in IDS for run in range(RUNS)]
    assert not [row for row in battered if row.exit == "infrastructure"]
    assert {row.attempts for row in battered} == {1, 2}
    assert 1 <= sum(row.attempts == 2 for row in battered) <= SETTINGS["concurrency"]


def test_a_finished_shard_that_is_asked_for_again_samples_nothing(battered: list[Rollout], shard: Shard) -> None:
    """As by a job that Slurm starts anew although it ended: Snakemake has removed the output before."""
    log = shard.journal.with_name("server.log")
    said = log.read_bytes()
    shard.output.unlink()
    assert shard.finish(shard.start()) == battered
    assert log.read_bytes() == said, "a server was started"


def test_a_job_told_to_stop_goes_on_later_with_the_same_result(battered: list[Rollout], shard: Shard) -> None:
    gentle = Shard(shard.folder, shard.model, "gentle", shard.started)
    process = gentle.start()
    gentle.wait_for(12, process)
    process.send_signal(signal.SIGTERM)
    said = gentle.fail(process)
    assert "told to stop (SIGTERM)" in said and "run the same command again" in said
    # What ran when the signal came had the grace period to end, and was kept.
    assert len(gentle.records()) > 12

    rows = gentle.finish(gentle.start())
    assert [_said(row) for row in rows] == [_said(row) for row in battered]


def _said(row: Rollout) -> dict:
    """All of a row but what depends on the clock, on luck and on prices."""
    return row.model_dump(exclude={"seconds", "attempts", "cached_tokens", "dollars"})


def test_a_model_that_cannot_be_served_fails_the_job_with_the_servers_own_words(shard: Shard, tmp_path: Path) -> None:
    broken = Shard(shard.folder, tmp_path / "broken", "broken", shard.started)
    broken.model.mkdir()
    (broken.model / "config.json").write_text('{"architectures": ["NoSuchModel"], "model_type": "qwen2"}')
    said = broken.fail(broken.start())
    assert "the vLLM server ended before it was ready" in said and "NoSuchModel" in said
    assert not broken.records()


def test_a_server_that_never_gets_healthy_fails_the_job_and_costs_no_attempt(shard: Shard) -> None:
    serving = SETTINGS["serving"] | {"startup_seconds": 0.5}
    hasty = replace(shard, name="hasty", settings=SETTINGS | {"serving": serving})
    assert "the vLLM server was not ready within startup_seconds = 0.5" in hasty.fail(hasty.start())
    assert not hasty.journal.read_bytes()


# --- endpoints of others, in the same code


KEY = "sk-secret-0123456789"
TEACHER = {"kind": "endpoint", "model": "big", "key_variable": "TEACHER_KEY", "retries": 0}
PRICES = {"input": 3, "cached_input": 0.3, "output": 15}


def teach(shard: Shard, name: str, url: str, settings: dict[str, Any] | None = None, **endpoint: Any) -> Shard:
    chosen = SETTINGS | {"attempts": 8, "request_seconds": 30} | (settings or {})
    return replace(shard, name=name, settings=chosen, endpoint=TEACHER | {"base_url": url} | endpoint)


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_real_server_as_an_endpoint_gives_the_same_rollouts_within_a_limit_of_cost(
    battered: list[Rollout], shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServingSettings.model_validate(
        SETTINGS["serving"] | {"extra_arguments": ["--enable-prompt-tokens-details"]}
    )
    with serve(shard.model, settings, tmp_path / "log") as server:
        monkeypatch.setenv("TEACHER_KEY", server.api_key)
        options = {"model": server.model, "dollars_per_million": PRICES}
        poor = teach(shard, "outside", server.base_url, {"max_dollars": 0.04}, **options)
        process = poor.start()
        _, said = process.communicate()
        assert process.returncode == 1 and not poor.output.exists()
        assert "of max_dollars = 0.04 are spent" in said
        made = poor.records()
        assert 0 < len(made) < len(battered)
        spent = sum(payload["dollars"] for payload in made.values())
        assert spent <= 0.04

        rich = teach(shard, "outside", server.base_url, {"max_dollars": 40}, **options)
        rows = rich.finish(rich.start())
        key = server.api_key
    assert [_said(row) for row in rows] == [_said(row) for row in battered]
    prices = Prices.model_validate(PRICES)
    for row in rows:
        assert row.dollars == prices.dollars(row.prompt_tokens, row.cached_tokens, row.completion_tokens) > 0
    assert {payload["instance_id"] for payload in made.values() if payload["attempts"] > 1} == set()
    assert any(row.attempts == 2 for row in rows)  # those that the money did not reach
    assert not files_with(shard.folder, key)
    assert not [word for started in shard.started for word in started.args if key in word]


def test_no_fault_of_an_endpoint_loses_or_judges_a_rollout(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    good = completion(choices=[CHOICE | {"message": {"role": "assistant", "content": "4| -= => +="}}])
    nothing = completion(choices=[CHOICE | {"message": {"role": "assistant", "content": ""}}], usage=UNUSED)
    faults = [
        (429, "{}"),
        (500, "<html>"),
        (200, "{garbage"),
        (200, ""),
        (200, nothing),
        (503, f"you are {KEY}"),
        "endless",
    ]

    def answer(request: Any, number: int) -> None:
        fault = faults[number // 2] if number < 2 * len(faults) else (200, good)
        if fault != "endless":
            return send(request, *fault)
        send(request, 200, "{")
        while written(request, b" " * 2**20):
            pass

    with serving(answer) as url:
        tried = teach(shard, "faults", url, {"attempts": 2 * len(faults) + 1})
        process = tried.start()
        _, said = process.communicate()
    assert process.returncode == 0, said
    rows = read_jsonl(tried.output, Rollout)
    assert len(rows) == len(IDS) * RUNS
    assert {row.exit for row in rows} == {"submitted"} and all("+        result += item" in row.patch for row in rows)
    assert sum(row.attempts - 1 for row in rows) == 2 * len(faults)
    for words in ("status 429", "status 500", "not a chat completion", "empty, of no token", "longer than"):
        assert words in " ".join(said.split())
    assert KEY not in said and not files_with(shard.folder, KEY)


def test_an_endpoint_that_only_fails_fails_the_job_with_its_words(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with serving(lambda request, _: send(request, 500, '{"error": "overloaded"}')) as url:
        down = teach(shard, "down", url, {"attempts": 2})
        said = down.fail(down.start())
    assert "60 of 60 rollouts failed for reasons of machinery" in said and "overloaded" in said
    with serving(lambda request, _: send(request, 401, "{}")) as url:
        wrong = teach(shard, "wrong", url)
        assert "refuses all calls: status 401" in wrong.fail(wrong.start())
    monkeypatch.delenv("TEACHER_KEY")
    assert "set the environment variable TEACHER_KEY" in wrong.fail(wrong.start())


def test_a_job_at_an_endpoint_stops_when_told_to(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    asked, over = threading.Event(), threading.Event()

    def hold(request: Any, number: int) -> None:
        if number < 5:
            return send(request, 200, completion())
        asked.set()
        over.wait()

    with serving(hold) as url:
        stopped = teach(shard, "stopped", url, {"grace_seconds": 0.1})
        process = stopped.start()
        asked.wait()
        process.send_signal(signal.SIGTERM)
        said = stopped.fail(process)
        over.set()
    assert f"told to stop (SIGTERM): 5 of {len(IDS) * RUNS} rollouts finished" in said
    assert len(stopped.records()) == 5


def test_a_sandbox_that_does_not_start_is_never_the_models_failure(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance's layer is torn, and CodeAct needs a sandbox before it asks anything."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    (tmp_path / "images/envs").mkdir(parents=True)
    (tmp_path / "images/instances").mkdir()
    (tmp_path / "images/envs/pkg.sif").symlink_to(pytest_only_environment())
    whole = (shard.folder / f"images/instances/{IDS[0]}.sqsh").read_bytes()
    (tmp_path / f"images/instances/{IDS[0]}.sqsh").write_bytes(whole[:100])
    write_jsonl(tmp_path / "instances.jsonl", [_instance(IDS[0])])
    settings = {"scaffold": {"kind": "codeact"}, "attempts": 2}
    with serving(lambda request, _: send(request, 500, "not reached")) as url:
        strict = replace(teach(shard, "sandbox", url, settings), folder=tmp_path)
        said = strict.fail(strict.start())
        assert "3 of 3 rollouts failed for reasons of machinery" in said and "the sandbox did not start" in said
        lenient = replace(strict, settings=strict.settings | {"max_infrastructure_failures": 1})
        rows = lenient.finish(lenient.start())
    assert [(row.exit, row.patch, row.attempts) for row in rows] == [("infrastructure", "", 4)] * RUNS
    assert all("SandboxError" in row.error and not row.messages for row in rows)


def test_a_full_disk_ends_the_job_and_loses_nothing_once_there_is_room(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    requests = []

    def answer(request: Any, number: int) -> None:
        requests.append(number)
        send(request, 200, completion())

    with serving(answer) as url:
        full = teach(shard, "full", url)
        script = """
            mkdir -p "$1" && mount -t tmpfs -o size=32k tmpfs "$1" && shift || exit 77
            "$@" && exit 78
            echo "then: $(grep -cE 'submitted.*"[0-9a-f]{64}"}$' "$0") finished" >&2
            mount -o remount,size=8m "$(dirname "$0")" && exec "$@"
        """
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(full.journal)]
        done = subprocess.run([*command, str(full.journal.parent), *full.command()], capture_output=True, text=True)
    said = " ".join(done.stderr.split())
    assert done.returncode == 0, said
    assert f"{full.journal}: the journal cannot be written: No space left on device" in said
    finished = int(re.findall(r"then: (\d+) finished", said)[0])
    assert 3 <= finished < len(IDS) * RUNS
    assert f"{len(IDS) * RUNS} rollouts ({finished} from the journal)" in said
    assert len(read_jsonl(full.output, Rollout)) == len(IDS) * RUNS
    # Only what was under way when the disk was full was asked for again.
    assert len(requests) <= len(IDS) * RUNS + 2 * SETTINGS["concurrency"]


def _engine_below(pid: int) -> psutil.Process:
    below = set(psutil.Process(pid).children(recursive=True))
    return next(p for p in psutil.process_iter(["cmdline"]) if p in below and "EngineCore" in str(p.info["cmdline"]))


def _servers(model: Path) -> list[psutil.Process]:
    """Processes of servers of this model that have not ended."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(model) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)
