"""What a verifier is shown and asked: one conversation about one rollout, answered by one of two words.

`paper`: the paper's form for OpenHands (section B.5; FACTS of the released notebooks): a system message with the
criteria, then the whole interaction as text between markers, and a question whose answer, YES or NO, stands in a
judgement tag. `patch`: its form for Moatless (section B.4): the issue, the code before and after the patch with line
numbers, and the code that the agent had found, answered True or False; the code around a change is what the diff has,
three lines where the released parser shows five. `plain`, for models too small for instructions: the first user message
of the rollout, the last reply, and whether a patch came of it.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from unidiff import PatchSet
from unidiff.errors import UnidiffParseError

from swedag.errors import SwedagError
from swedag.trajectory import Message, Rollout

Form = Literal["paper", "patch", "plain"]
YES, NO = "YES", "NO"

CRITERIA = """You judge whether a software engineering agent has done its task. Look at its interaction log and ask:
1. Is the main task done?
2. Are the edge cases handled?
3. Were the errors on the way understood and mended?
4. Was the result verified?
Answer with nothing but <judgement>YES</judgement> or <judgement>NO</judgement>."""

REVIEWER = """You review changes to code. You are shown an issue, the code before and after a change, and other code \
that the author of the change looked at. Judge whether the change resolves the issue. Answer with nothing but True or \
False."""


def words(form: Form) -> tuple[str, str]:
    """The answer for a resolved rollout, and that for one which is not."""
    return ("True", "False") if form == "patch" else (YES, NO)


def question(rollout: Rollout, form: Form) -> list[Message]:
    """The conversation up to the verifier's turn."""
    if form == "plain":
        asked = next(message.content for message in rollout.messages if message.role == "user")
        replies = [message.content for message in rollout.messages if message.role == "assistant"]
        replied = replies[-1] if replies else ""
        result = "patch" if rollout.patch else "empty patch"
        return [Message(role="user", content=f"{asked}\n\n{replied}\n\n{result}\n\n{YES} or {NO}?")]
    if form == "patch":
        return [Message(role="system", content=REVIEWER), Message(role="user", content=_review(rollout))]
    log = f"----- BEGIN LOG -----\n{transcript(rollout)}\n----- END LOG -----"
    return [
        Message(role="system", content=CRITERIA),
        Message(role="user", content=f"{log}\n\nHas the agent done its task?"),
    ]


def _review(rollout: Rollout) -> str:
    """Issue and found code are those of the scaffold's own tags; without tags the first user message is the issue."""
    said = [message.content for message in rollout.messages if message.role == "user"]
    before, after = sides(rollout)
    found = _tagged("file_context", reversed(said))
    parts = {"issue": _tagged("issue", said) or said[0], "before": before, "after": after, "context": found}
    shown = "\n\n".join(f"<{tag}>\n{text}\n</{tag}>" for tag, text in parts.items() if text or tag != "context")
    return f"{shown}\n\nDoes the change resolve the issue? True or False"


def _tagged(tag: str, texts: Iterable[str]) -> str:
    """What stands in the first such tag."""
    matches = (re.search(rf"<{tag}>\n?(.*?)\n?</{tag}>", text, re.DOTALL) for text in texts)
    return next((match[1] for match in matches if match), "")


def sides(rollout: Rollout) -> tuple[str, str]:
    """The hunks of the patch before and after it, each file under its path and each line under its number."""
    try:
        files = PatchSet(rollout.patch)
    except UnidiffParseError as error:
        raise SwedagError(f"{rollout.instance_id} run {rollout.run}: its patch is no unified diff: {error}") from error
    before: list[str] = []
    after: list[str] = []
    for file in files:
        for side in (before, after):
            side.append(file.path)
        for hunk in file:
            before += [f"{line.source_line_no:4} {line.value}".rstrip() for line in hunk if not line.is_added]
            after += [f"{line.target_line_no:4} {line.value}".rstrip() for line in hunk if not line.is_removed]
    return "\n".join(before), "\n".join(after)


@dataclass(frozen=True)
class Asked:
    """A question and its tokens; `cut` if some of the log was left out."""

    messages: list[Message]
    tokens: list[int]
    cut: bool = False


def fit(rollout: Rollout, form: Form, limit: int, tokenize: Callable[[list[Message]], list[int]]) -> Asked:
    """The question, cut to `limit` tokens if it is longer and the paper's form.

    Left out are messages between the first reply and the end, no more than must be: what was asked of the agent and the
    newest messages stay, and a line says how many are missing. A question that cannot be cut to the limit is returned
    whole.
    """
    whole = question(rollout, form)
    asked = Asked(whole, tokenize(whole))
    if len(asked.tokens) <= limit or form != "paper":
        return asked
    said = rollout.messages
    first = next((place for place, message in enumerate(said) if message.role == "assistant"), len(said))

    def cut(kept: int) -> Asked:
        gap = Message(role="user", content=f"[{len(said) - first - kept} messages left out]")
        shorter = rollout.model_copy(update={"messages": [*said[:first], gap, *said[len(said) - kept :]]})
        shown = question(shorter, form)
        return Asked(shown, tokenize(shown), cut=True)

    fitting = bisect_right(range(len(said) - first), limit, key=lambda kept: len(cut(kept).tokens))
    return cut(fitting - 1) if fitting else asked


def transcript(rollout: Rollout) -> str:
    """Every message under a rule and a header with its turn; user messages in a row are one."""
    merged: list[Message] = []
    for message in rollout.messages:
        if merged and message.role == merged[-1].role == "user":
            merged[-1] = Message(role="user", content=f"{merged[-1].content}\n{message.content}")
        else:
            merged.append(message)
    rule = "-" * 100
    return "\n".join(
        f"{rule}\n*** Turn {index // 2 + 1} - {message.role.upper()} ***\n{message.content}"
        for index, message in enumerate(merged)
    )


def opening(form: Form) -> str:
    """What of the answer stands before the word that is judged."""
    return "<judgement>" if form == "paper" else ""


def answer(resolved: bool, form: Form) -> str:
    """The answer to learn."""
    word = words(form)[0 if resolved else 1]
    return f"<judgement>{word}</judgement>" if form == "paper" else word
