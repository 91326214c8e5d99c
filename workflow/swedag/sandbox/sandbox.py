"""The sandbox itself: a container whose one shell is given commands and renewed after what they do to it."""

import os
import posixpath
import secrets
import shlex
import signal
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from swedag.sandbox import processes, watchdog
from swedag.sandbox.container import Collect, Container, ContainerEnded, ShellEnded
from swedag.sandbox.launch import (
    bounds_of_processes,
    command_line,
    default_scratch,
    launch_environment,
    namespaces_work,
    unpacked,
)
from swedag.sandbox.limits import Limits, Result, SandboxError, SandboxLost
from swedag.sandbox.output import BoundedOutput
from swedag.sandbox.scripts import CLEAN_PRELUDE, PRELUDE, SETUP, SUPERVISE

START_SECONDS = 60.0
RECOVERY_SECONDS = 5.0
FILE_SECONDS = 120.0
INODES_PER_MB = 64
# Programs reserve more address space than they use; this stops one that would outrun the watchdog.
ADDRESS_SPACE_FACTOR = 4
# Beyond the kernel's own bounds, see launch.py. Only where those are missing does the watchdog end a sandbox for it.
SLACK_PROCESSES = 400
# More processes than this are not hunted one by one: the supervisor kills all that there are, older ones too.
MANY = 64


class Sandbox:
    """A fresh, isolated copy of an instance. Leaving the `with` ends everything in it.

    `environment` is the image (.sif, .sqsh or an unpacked folder) and `layer` the squashfs with /testbed; None when
    the image has /testbed itself. `scratch` is a folder on a local disk where images are unpacked, once.
    `writable` says what can be written inside: "overlay", the whole system, or "folders", /testbed, /tmp and /dev/shm,
    which is all that `read_only_system` (or an old kernel) leaves.
    Not for use by two threads at a time. Raises SandboxError when it cannot be started, SandboxLost when it is lost.
    """

    def __init__(
        self,
        environment: Path,
        layer: Path | None,
        limits: Limits | None = None,
        scratch: Path | None = None,
        *,
        read_only_system: bool = False,
    ) -> None:
        self.environment, self.layer, self.read_only_system = environment, layer, read_only_system
        self.limits = limits or Limits()
        self.scratch = scratch or default_scratch()
        self.writable = ""
        # For the watchdog.
        self.first_pid = 0
        self.memory_bytes = self.limits.memory_mb << 20
        self.most_processes = self.limits.processes + SLACK_PROCESSES
        self.ends_at = 0.0
        self._container: Container | None = None
        self._commands = 0
        self._shell = 0
        self._notes: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, command: str, timeout: float = 60.0) -> Result:
        """Run `command` (any bash) where the last one left off; its output, exit code and duration.

        Working directory, variables, functions and background jobs persist from command to command. Standard input
        is empty. After `timeout` seconds all processes that the command started are killed, and the next command
        finds the state from before it. SandboxLost when the sandbox is gone.
        """
        if "\0" in command:
            raise ValueError("a command cannot hold a NUL character")
        kept = BoundedOutput(self.limits.output_bytes)
        return self._execute(f"eval {shlex.quote(command)} </dev/null >&200 2>&200", timeout, kept)

    def read(self, path: str) -> bytes:
        """Content of a file, up to `Limits.file_mb`. FileNotFoundError if it cannot be read."""
        whole = BoundedOutput(2 * (self.limits.file_mb << 20))
        result = self._execute(f"cat -- {shlex.quote(path)} </dev/null >&200 2>/dev/null", FILE_SECONDS, whole)
        if result.exit_code != 0 or result.dropped_bytes:
            raise FileNotFoundError(f"{path}: cannot be read in the sandbox (exit code {result.exit_code})")
        return whole.content()

    def write(self, path: str, data: bytes) -> None:
        """Create or overwrite a file (its folder is made). OSError if that fails, for example on a full disk."""
        name, folder = shlex.quote(path), shlex.quote(posixpath.dirname(path) or ".")
        # `head` takes exactly the bytes that follow the line; the second `cat` takes them if the file cannot be opened.
        line = (
            f"[ -d {folder} ] || mkdir -p -- {folder} >&200 2>&200; head -c {len(data)} | "
            f"{{ cat >{name} || {{ cat >/dev/null; false; }}; }} 2>&200; (exit ${{PIPESTATUS[1]}})"
        )
        result = self._execute(line, FILE_SECONDS, BoundedOutput(self.limits.output_bytes), data)
        if result.exit_code != 0:
            raise OSError(f"{path}: cannot be written in the sandbox: {result.output.strip()}")

    def close(self) -> None:
        """End all processes of the sandbox and wait until they are gone. May be called more than once."""
        watchdog.unwatch(self)
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def note(self, why: str) -> None:
        """For the watchdog: say in the output of the running command what was done to it."""
        self._notes.append(why)

    def end(self, why: str) -> None:
        """For the watchdog: kill everything; the command that runs, or the next one, raises SandboxLost."""
        container = self._container
        if container is not None:
            self._notes.append(why)
            container.kill()

    def _start(self) -> None:
        if self.layer is not None and not self.layer.is_file():
            raise SandboxError(f"{self.layer}: no such instance layer")
        limits, key = self.limits, secrets.token_hex(8)
        processes_of_user, pid_max = bounds_of_processes(limits.processes)
        root = unpacked(self.environment, self.scratch)
        layer = os.open(self.layer, os.O_RDONLY) if self.layer is not None else None
        inside = [
            *("bash", "-c", SETUP, "setup", "none" if layer is None else str(layer)),
            *(str(limits.disk_mb), str(limits.disk_mb * INODES_PER_MB), pid_max),
            *("read-only" if self.read_only_system else "writable", SUPERVISE, key),
            *(str(limits.file_mb << 10), str(limits.memory_mb * ADDRESS_SPACE_FACTOR << 10), processes_of_user),
        ]
        self.ends_at = time.monotonic() + limits.seconds
        try:
            self._container = container = Container(
                lambda lifeline: [*command_line(root, lifeline), *inside],
                key,
                cwd=self.scratch,
                env=launch_environment(self.scratch),
                inherit=() if layer is None else (layer,),
                private=namespaces_work(),
            )
        finally:
            if layer is not None:
                os.close(layer)
        said = BoundedOutput(4096)
        try:
            container.send(PRELUDE.format(key=key).encode())
            heard = container.hear("ready", time.monotonic() + START_SECONDS, said.add, said.add)
            container.locate_first_process()
        except (ContainerEnded, ShellEnded, TimeoutError) as error:
            reason = said.text().strip() or f"nothing was heard of it for {START_SECONDS:g} s"
            images = " with ".join(str(image) for image in (self.environment, self.layer) if image)
            raise SandboxError(f"{images}: the sandbox did not start: {reason}; see `swedag doctor`") from error
        self.first_pid, self.writable = container.first_pid, container.writable
        self._shell = container.pid_of(int(heard[0]))
        watchdog.watch(self)

    def _execute(self, line: str, timeout: float, kept: BoundedOutput, data: bytes = b"") -> Result:
        """Send one line of script (and the bytes it reads) and collect what it prints until it has ended."""
        container = self._container
        if container is None:
            raise SandboxLost("the sandbox is closed")
        self._commands += 1
        started, tick = time.monotonic(), processes.now()
        exit_code: int | None = None
        timed_out = False
        try:
            try:
                container.send(f"{line}; __swedag_end $? {self._commands}\n".encode() + data)
                heard = container.hear(f"done {self._commands}", min(started + timeout, self.ends_at), kept.add)
                exit_code = int(heard[0])
            except TimeoutError:
                timed_out = True
                if time.monotonic() >= self.ends_at:
                    self._lost("its wall time is over")
                many = len(processes.started_by(self.first_pid, tick, self._shell)) > MANY
                self._end_shell(container, tick, kept.add, but_only_it=many)
                self._renew_shell(container, kept.add, everything=many)
            except ShellEnded as ended:
                # `exit`, `exec`, `set -e` or a signal: as with a closed terminal, the next command has a new shell.
                exit_code = ended.exit_code
                self._renew_shell(container, kept.add)
        except ContainerEnded:
            self._lost("it ended")
        notes, self._notes = self._notes, []
        for why in notes:
            kept.add(f"\n[sandbox: {why}]\n".encode())
        return Result(kept.text(), exit_code, time.monotonic() - started, timed_out, kept.dropped)

    def _renew_shell(self, container: Container, collect: Collect, everything: bool = False) -> None:
        """Have the supervisor begin a new shell in the last state; `everything` else is killed first, if asked.

        A command may have left a state in which no shell can work (functions named like builtins): that one is dropped.
        """
        again = "all" if everything else "again"
        for prelude in (PRELUDE, CLEAN_PRELUDE):
            since = processes.now()
            container.send(f"{container.key} {again}\n{prelude.format(key=container.key)}".encode())
            try:
                heard = container.hear("ready", time.monotonic() + RECOVERY_SECONDS, collect)
            except ShellEnded:
                continue
            except TimeoutError:
                self._end_shell(container, since, collect)
                continue
            self._shell = container.pid_of(int(heard[0]))
            return
        self._lost("no new shell could be started")

    def _end_shell(self, container: Container, since: int, collect: Collect, but_only_it: bool = False) -> None:
        """Kill the shell and what was started at tick `since` or later, and wait for the supervisor to say so."""
        if but_only_it:
            shell = processes.look(self._shell)
            if shell is not None:
                processes.send(shell, signal.SIGKILL)
        elif not processes.end_all(partial(processes.started_by, self.first_pid, since, self._shell), RECOVERY_SECONDS):
            self._lost("a command's processes could not all be killed")
        try:
            container.hear("ended", time.monotonic() + RECOVERY_SECONDS, collect)
        except ShellEnded:
            return
        except TimeoutError:
            self._lost("its shell did not end")

    def _lost(self, why: str) -> NoReturn:
        reasons = "; ".join(dict.fromkeys([*self._notes, why]))
        self.close()
        raise SandboxLost(f"the sandbox was lost: {reasons}")
