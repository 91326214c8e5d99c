"""The systems side by side. Each is a context manager: it starts one sandbox and gives what runs a command in it.

Every peer has the configuration that is fastest for it: its own server in the container where it has one, commands
that start one process and no session, connections kept open, no waiting between two looks whether a server is up.
"""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from swedag.apptainer import find_apptainer
from swedag.errors import SwedagError
from swedag.sandbox import Sandbox
from tests.benchmarks import peers

START_SECONDS = 120
STOP_SECONDS = 10

# Takes a command line, gives its exit code.
Run = Callable[[str], int | None]


@dataclass(frozen=True)
class Images:
    """For those that bring no server of their own into the container; `layer` is for swedag alone."""

    environment: Path
    layer: Path


Contestant = Callable[[Images], AbstractContextManager[Run]]


@contextmanager
def swedag(images: Images) -> Iterator[Run]:
    with Sandbox(images.environment, images.layer) as sandbox:
        yield lambda command: sandbox.run(command).exit_code


@contextmanager
def plain_exec(images: Images) -> Iterator[Run]:
    """A container per command, with Apptainer's defaults: nothing starts, nothing persists, nothing is isolated."""
    words = [find_apptainer(), "--silent", "exec", str(images.environment)]
    yield lambda command: subprocess.run([*words, *shlex.split(command)], capture_output=True).returncode


@contextmanager
def bash(images: Images) -> Iterator[Run]:
    """A shell on the machine itself, asked through a pipe: no sandbox, and so what none of them can be faster than."""
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:

        def run(command: str) -> int | None:
            assert shell.stdin and shell.stdout
            print(f"{command}; echo $?", file=shell.stdin, flush=True)
            return int(shell.stdout.readline())

        yield run


@contextmanager
def mini_swe_agent(images: Images) -> Iterator[Run]:
    os.environ["MSWEA_SILENT_STARTUP"] = "1"
    with tempfile.TemporaryDirectory() as settings:
        os.environ.setdefault("MSWEA_GLOBAL_CONFIG_DIR", settings)
        from minisweagent.environments.singularity import SingularityEnvironment
    environment = SingularityEnvironment(
        image=str(images.environment),
        executable=find_apptainer(),
        exec_args=["--contain", "--cleanenv", *fakeroot(images.environment)],
    )
    try:
        yield lambda command: environment.execute({"command": command})["returncode"]
    finally:
        environment.cleanup()


@contextmanager
def swe_rex(images: Images) -> Iterator[Run]:
    """SWE-ReX has no Apptainer deployment: its remote server in a container, asked for `execute`, not for a session."""
    port, token = _free_port(), secrets.token_hex(16)
    server = ["exec", "--containall", "--writable-tmpfs", *peers.install().words("swerex.server")]
    server += ["--host", "127.0.0.1", "--port", str(port), "--auth-token", token]
    with _served(server, port, "/is_alive", {"X-API-Key": token}) as client:

        def run(command: str) -> int | None:
            return _post(client, "/execute", {"command": shlex.split(command)})["exit_code"]

        yield run


@contextmanager
def openhands(images: Images) -> Iterator[Run]:
    """The agent server, in a container with the options of ApptainerWorkspace, asked over its own interface."""
    port = _free_port()
    options = [*fakeroot(peers.install().image), "--compat", "--no-mount", "hostfs", "--no-mount", "bind-paths"]
    # Without this LiteLLM fetches its list of prices when it is imported.
    options += ["--env", "LITELLM_LOCAL_MODEL_COST_MAP=True"]
    server = ["exec", *options, *peers.install().words("openhands.agent_server")]
    server += ["--host", "127.0.0.1", "--port", str(port)]
    with _served(server, port, "/health", {}) as client:

        def run(command: str) -> int | None:
            asked = {"command": command, "cwd": "/tmp", "timeout": 60}
            return _post(client, "/api/bash/execute_bash_command", asked)["exit_code"]

        yield run


CONTESTANTS: dict[str, Contestant] = {
    "swedag": swedag,
    "mini-swe-agent": mini_swe_agent,
    "SWE-ReX": swe_rex,
    "OpenHands": openhands,
    "apptainer exec": plain_exec,
    "bash, no sandbox": bash,
}
PEERS = ("mini-swe-agent", "SWE-ReX", "OpenHands")


@cache
def fakeroot(image: Path) -> tuple[str, ...]:
    """--fakeroot where this user may: it needs a range of ids, which root often lacks (and does not need)."""
    tried = [find_apptainer(), "--silent", "exec", "--fakeroot", str(image), "true"]
    return ("--fakeroot",) if subprocess.run(tried, capture_output=True).returncode == 0 else ()


@contextmanager
def _served(words: list[str], port: int, alive: str, headers: dict[str, str]) -> Iterator[httpx.Client]:
    """A server in a container, from its start until it answers `alive`, and its end as its makers end it."""
    with (
        tempfile.TemporaryFile() as log,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False) as client,
    ):
        server = subprocess.Popen(
            [find_apptainer(), "--silent", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(client, alive):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    end = log.read().decode(errors="replace").strip().splitlines()[-5:]
                    raise SwedagError(f"its server does not answer: {' / '.join(end)}")
                time.sleep(0.02)
            yield client
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def _post(client: httpx.Client, path: str, asked: dict) -> dict:
    reply = client.post(path, json=asked)
    reply.raise_for_status()
    return reply.json()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
