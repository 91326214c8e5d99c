"""What a scaffold is: a generator of steps. It yields what it wants done, is sent the answer, and returns a Finish.

A scaffold thus sees only instance, history and answers; it knows no server, container or file. Recorded answers drive
it in a test as a real model and sandbox do in a rollout.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from swedag.trajectory import Exit, Message


@dataclass(frozen=True)
class Ask:
    """Let the model continue this conversation; `json` holds it to an object. Answered by a Reply, or ContextFullError
    is thrown in."""

    messages: tuple[Message, ...]
    stop: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True)
class Reply:
    """What the model said, in how many tokens; `truncated` when it was cut off at the token limit."""

    text: str
    truncated: bool = False
    tokens: int = 0


@dataclass(frozen=True)
class Execute:
    """Run a bash command in the sandbox, at most `seconds` long. Answered by an Executed."""

    command: str
    seconds: float


@dataclass(frozen=True)
class Executed:
    """Standard output and error together; no exit code when the command was ended by its time limit."""

    output: str
    exit_code: int | None
    timed_out: bool = False


@dataclass(frozen=True)
class ReadFile:
    """The text of a file of the repository, by its path below /testbed. Answered by a str."""

    path: str


@dataclass(frozen=True)
class Load:
    """The bytes of a file of the sandbox, by its absolute path. Answered by bytes, or None when it cannot be read."""

    path: str


@dataclass(frozen=True)
class Store:
    """Write a file of the sandbox, by its absolute path. Answered by "" or by what is wrong."""

    path: str
    content: bytes


@dataclass(frozen=True)
class Compute:
    """Call a function that takes long enough to keep other attempts waiting. Answered by what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Finish:
    """The end: the patch as a unified diff (maybe empty), why it ended, and a remark about that.

    `conversation` is what was said, where the last question and its reply are not the whole of it or have other words.
    `repeated` tells whether the last three actions were the very same, which is what the paper calls stuck in a loop.
    """

    patch: str
    exit: Exit
    remark: str = ""
    conversation: tuple[Message, ...] = ()
    repeated: bool = False


DIFF_FILE = "/tmp/swedag.patch"


class ContextFullError(Exception):
    """The conversation does not fit into the model's context any more."""


Step = Ask | Execute | ReadFile | Load | Store | Compute
Attempt = Generator[Step, Any, Finish]


def ask(messages: Sequence[Message], stop: Sequence[str] = ()) -> Generator[Step, Any, Reply]:
    """`reply = yield from ask(messages)`"""
    reply: Reply = yield Ask(tuple(messages), tuple(stop))
    return reply


def read_file(path: str) -> Generator[Step, Any, str]:
    """`text = yield from read_file(path)`"""
    text: str = yield ReadFile(path)
    return text


def repository_diff(base: str = "", seconds: float = 600) -> Generator[Step, Any, tuple[str, str]]:
    """`patch, problem = yield from repository_diff(commit)`: all changes of the repository since a commit (HEAD), new
    files included. It comes as a file, so that no bound on a command's output cuts it."""
    made: Executed = yield Execute(
        f"cd /testbed && git add -A && git diff --no-color --no-ext-diff --cached {base} >{DIFF_FILE}", seconds
    )
    content: bytes | None = yield Load(DIFF_FILE)
    if made.exit_code != 0 or content is None:
        return "", f"no diff could be made: {made.output.strip()[-300:] or 'it took too long'}"
    return content.decode(errors="replace"), ""
