"""What a verifier is shown and asked: one conversation about one rollout, answered by YES or NO.

The paper's form (section B.5; FACTS of the released notebooks): a system message with the criteria, then the whole
interaction as text between markers, and a question whose answer stands in a judgement tag. The plain form, for models
too small for instructions, is the first user message of the rollout, the last reply, and whether a patch came of it.
"""

from typing import Literal

from swedag.trajectory import Message, Rollout

Form = Literal["paper", "plain"]
YES, NO = "YES", "NO"

CRITERIA = """You judge whether a software engineering agent has done its task. Look at its interaction log and ask:
1. Is the main task done?
2. Are the edge cases handled?
3. Were the errors on the way understood and mended?
4. Was the result verified?
Answer with nothing but <judgement>YES</judgement> or <judgement>NO</judgement>."""


def question(rollout: Rollout, form: Form) -> list[Message]:
    """The conversation up to the verifier's turn."""
    if form == "plain":
        asked = next(message.content for message in rollout.messages if message.role == "user")
        replies = [message.content for message in rollout.messages if message.role == "assistant"]
        replied = replies[-1] if replies else ""
        result = "patch" if rollout.patch else "empty patch"
        return [Message(role="user", content=f"{asked}\n\n{replied}\n\n{result}\n\n{YES} or {NO}?")]
    log = f"----- BEGIN LOG -----\n{transcript(rollout)}\n----- END LOG -----"
    return [
        Message(role="system", content=CRITERIA),
        Message(role="user", content=f"{log}\n\nHas the agent done its task?"),
    ]


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
    word = YES if resolved else NO
    return f"<judgement>{word}</judgement>" if form == "paper" else word
