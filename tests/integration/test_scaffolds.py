"""Each agent in a real sandbox with replies that are right: its actions mend a real package, and its patch resolves it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from swedag.grading.run import GradingSettings, grade_patch
from swedag.instances import Instance, image_files
from swedag.rollouts.attempt import Job, attempt
from swedag.rollouts.endpoint import connect
from swedag.rollouts.settings import RolloutSettings
from swedag.trajectory import Rollout
from tests.integration.images import pytest_only_environment
from tests.integration.test_smoke_lm import BUGS, _instance

pytestmark = pytest.mark.integration
WRONG, RIGHT = (
    "        if item is not None:\n            item = self",
    "        if item is None:\n            item = self",
)
REPLACE = """I mend the condition.

<function=str_replace_editor>
<parameter=command>str_replace</parameter>
<parameter=path>/workspace/xmltodict__0.14.2/xmltodict.py</parameter>
<parameter=old_str>
{}
</parameter>
<parameter=new_str>
{}
</parameter>
"""
BASH = "<function=execute_bash>\n<parameter=command>{}</parameter>\n"
PLAN = {"action": "modify", "instructions": "Turn the condition round.", "file_path": "xmltodict.py"}
BODY = """    def push_data(self, item, key, data):
        if self.postprocessor is not None:
            result = self.postprocessor(self.path, key, data)
            if result is None:
                return item
            key, data = result
        if item is None:
            item = self.dict_constructor()
        try:
            value = item[key]
            if isinstance(value, list):
                value.append(data)
            else:
                item[key] = [value, data]
        except KeyError:
            if self._should_force_list(key, data):
                item[key] = [data]
            else:
                item[key] = data
        return item
"""
SPAN = "_DictSAXHandler.push_data"
RUNS: dict[str, list[Any]] = {
    "codeact": [
        BASH.format("python -m pytest -q tests/test_xmltodict.py -k test_list"),
        REPLACE.format(WRONG, RIGHT),
        BASH.format("python -m pytest -q tests/test_xmltodict.py -k test_list"),
        "It passes.\n\n<function=finish>\n",
    ],
    "moatless": [
        {"search_requests": [{"function_names": ["push_data"]}]},
        {"identified_spans": [{"file_path": "xmltodict.py", "span_ids": [SPAN]}]},
        {"relevant": True, "complete": True},
        PLAN | {"span_id": SPAN},
        f"<replace>\n{BODY}",
        {"action": "finish", "finish": "It is mended."},
    ],
    "mini": [
        "```mswea_bash_command\nsed -i 's/^        if item is not None:$/        if item is None:/' xmltodict.py\n```",
        "```mswea_bash_command\ngit diff -- xmltodict.py > patch.txt\n```",
        "```mswea_bash_command\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && cat patch.txt\n```",
    ],
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("scaffolds")
    (folder / "images/instances").mkdir(parents=True)
    row = _instance(folder, *BUGS[0])
    _, layer = image_files(folder / "images", row)
    return Job(row, 0, "given", 1, pytest_only_environment(), layer)


@contextmanager
def endpoint_that_says(replies: list[Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint with given replies, and the requests that it got."""
    waiting, requests = iter(replies), []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            said = next(waiting)
            text = said if isinstance(said, str) else json.dumps(said)
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": "given",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
            }
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def roll_out(job: Job, kind: str) -> tuple[Rollout, list[dict[str, Any]]]:
    settings = RolloutSettings.model_validate({"scaffold": {"kind": kind}})

    async def run(url: str) -> Rollout:
        endpoint = connect(url, "key", "given", 60, connections=1)
        with ThreadPoolExecutor(2) as threads:
            async with endpoint.client:
                return await attempt(job, settings, endpoint, threads)

    with endpoint_that_says(RUNS[kind]) as (url, requests):
        return asyncio.run(run(url)), requests


def outcome(instance: Instance, patch: str, job: Job) -> str:
    settings = GradingSettings(timeout_seconds=60)
    return grade_patch(instance, patch, job.environment, job.layer, settings).outcome


@pytest.mark.parametrize("kind", list(RUNS))
def test_the_right_replies_resolve_a_real_instance(job: Job, kind: str) -> None:
    rollout, requests = roll_out(job, kind)
    assert (rollout.exit, rollout.error, rollout.turns) == ("submitted", "", len(RUNS[kind]))
    assert "-        if item is not None:\n+        if item is None:\n" in rollout.patch
    assert outcome(job.instance, rollout.patch, job) == "resolved"
    structured = [request.get("response_format") == {"type": "json_object"} for request in requests]
    assert structured == ([True] * 4 + [False, True] if kind == "moatless" else [False] * len(requests))


def test_the_agent_sees_the_tests_of_the_sandbox_fail_and_then_pass(job: Job) -> None:
    rollout, _ = roll_out(job, "codeact")
    seen = [message.content for message in rollout.messages if message.content.startswith("EXECUTION RESULT")]
    before, edited, after = seen
    assert "1 failed" in before
    assert "[Command finished with exit code 1]" in before
    assert edited.startswith(
        "EXECUTION RESULT of [str_replace_editor]:\nThe file /workspace/xmltodict__0.14.2/xmltodict.py"
    )
    assert "1 passed" in after
    assert "[Python Interpreter: /" in after
    assert "root@openhands-workspace:/workspace/xmltodict__0.14.2 # " in after
