"""`serve`: a vLLM server for as long as a `with` block lasts, and not one moment longer.

The server runs in a session of its own under a guard, a shell whose standard input is a pipe held open by swedag alone.
When the pipe closes, be it that the block ends or that swedag is killed, the guard ends the server and all its
processes; when the server ends, the guard kills what the server left behind and ends too.
"""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from swedag.errors import SwedagError
from swedag.node_folder import node_folder
from swedag.serving.command import server_command, server_environment
from swedag.serving.settings import ServingSettings

GRACE_SECONDS = 10
# 107 for the path of a socket, less `/swedag-serve-` and 8 letters, and a slash and vLLM's 36.
LONGEST_FOLDER = 107 - 22 - 37
PORTS = range(15000, 32000)
# $1 grace in seconds, $2 a scratch folder to remove, then the server's command. The TERM trap of the guard is set after
# the server has started, which must not inherit it.
GUARD = """
grace=$1 scratch=$2; shift 2
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
trap '' TERM INT HUP
{ cat <&3 >/dev/null; kill -TERM 0; sleep "$grace"; rm -rf "$scratch"; kill -KILL 0; } &
wait "$server"
echo "the server ended with status $?"
rm -rf "$scratch"
kill -KILL 0
"""


class ServingError(SwedagError):
    """The server could not be started, or was lost."""


@dataclass(frozen=True)
class Server:
    """A running server. Requests carry `Authorization: Bearer <api_key>`, so that no neighbour's server is mistaken."""

    base_url: str
    model: str
    api_key: str
    log: Path
    guard: subprocess.Popen[bytes]

    def alive(self) -> bool:
        return self.guard.poll() is None

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


@contextmanager
def serve(model: Path, settings: ServingSettings, log: Path, image: Path | None = None) -> Iterator[Server]:
    """Serve the Hugging Face folder `model`, whole or an adapter, under its folder name; yields when it answers.

    vLLM is that of an Apptainer `image`, or of the tool environment; its command and output go to `log`. Raises
    ServingError with the end of the log when the server dies or is not ready within `startup_seconds`. In the main
    thread SIGTERM ends the block by SystemExit, unless it is handled already.
    """
    if not any((model / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ServingError(f"{model}: not a model folder (it has no config.json)")
    log.parent.mkdir(parents=True, exist_ok=True)
    with _terminable():
        key, name, port = secrets.token_hex(16), model.resolve().name, _free_port()
        command = server_command(model, name, port, settings, image)
        with _guarded(command, key, settings, log, image) as guard:
            server = Server(f"http://127.0.0.1:{port}/v1", name, key, log, guard)
            _wait_until_ready(server, settings.startup_seconds)
            yield server


@contextmanager
def _guarded(
    command: list[str], key: str, settings: ServingSettings, log: Path, image: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with node_folder("serve", _short_folder()) as scratch:
        with log.open("ab", buffering=0) as out:
            out.write(f"{shlex.join(command)}\n".encode())
            guard = subprocess.Popen(
                ["sh", "-c", GUARD, "guard", str(GRACE_SECONDS), str(scratch), *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | server_environment(key, scratch, settings, image),
                start_new_session=True,
            )
        try:
            yield guard
        finally:
            family = _descendants(guard.pid)
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()
            # Nothing is left of the session unless someone has killed the guard itself.
            with suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            # Who is killed still holds its memory, a GPU's too, for as long as the kernel takes to free it.
            psutil.wait_procs(family, GRACE_SECONDS)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _short_folder() -> Path | None:
    """/tmp in place of a $TMPDIR so deep that vLLM's sockets below it would have longer names than the kernel takes."""
    return Path("/tmp") if len(tempfile.gettempdir()) > LONGEST_FOLDER else None


def _wait_until_ready(server: Server, seconds: float) -> None:
    """Return as soon as the server lists its model; notice at once when it dies instead."""
    import httpx

    deadline = time.monotonic() + seconds
    with httpx.Client(timeout=5, headers=server.headers(), trust_env=False) as client:
        while True:
            if not server.alive():
                raise ServingError(f"the vLLM server ended before it was ready. {tail(server.log)}")
            if time.monotonic() > deadline:
                raise ServingError(
                    f"the vLLM server was not ready within startup_seconds = {seconds:g}. {tail(server.log)}"
                )
            try:
                listed = client.get(f"{server.base_url}/models")
            except httpx.TransportError:
                listed = None
            if listed is not None and listed.is_success:
                return
            try:
                server.guard.wait(0.1)
            except subprocess.TimeoutExpired:
                continue


def tail(log: Path, lines: int = 8) -> str:
    """Where the log is, and its end."""
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in text if "Error" in line and "EngineDeadError" not in line]
    shown = [*errors[-3:], "…", *text[-lines:]] if errors else text[-lines:]
    return "\n".join([f"The end of {log}:", *shown])


def _free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections.

    Should another program take it before the server does, the server dies at once or its key is refused.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM, which by default ends Python on the spot, unwind the stack instead."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
