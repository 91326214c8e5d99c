"""The words that published trajectories begin with, as templates of the CodeAct scaffold.

A policy trained on published trajectories should be asked in their words. These are taken from a conversation: the
system message as it is, the first question with the issue and the workspace of its instance left open.
"""

import re
from collections.abc import Sequence

from swedag.errors import SwedagError
from swedag.instances import Instance
from swedag.trajectory import Message

WORKSPACE = re.compile(r"/workspace/[\w.+-]*\w")
OPEN, SHUT = "{% raw %}", "{% endraw %}"


def templates(messages: Sequence[Message], instance: Instance) -> dict[str, str | bool]:
    """Settings for `scaffold: {kind: codeact}`; SwedagError when the conversation does not begin with a system message
    and a question that holds the instance's issue."""
    if [message.role for message in messages[:2]] != ["system", "user"]:
        raise SwedagError(f"{instance.instance_id}: the trajectory does not begin with a system and a user message")
    system, question = (message.content for message in messages[:2])
    if instance.problem_statement not in question:
        raise SwedagError(f"{instance.instance_id}: the first question does not hold the issue as the instance has it")
    before, after = (_open(part) for part in question.split(instance.problem_statement, 1))
    return {
        "example": False,
        "system_template": f"{OPEN}{system}{SHUT}",
        "instance_template": f"{before}{{{{ task }}}}{after}",
    }


def _open(text: str) -> str:
    """The text as a template, its workspace, by path or by name alone, left open."""
    found = WORKSPACE.search(text)
    raw = f"{OPEN}{text}{SHUT}"
    if found is None:
        return raw
    name = found[0].removeprefix("/workspace/")
    raw = raw.replace(found[0], f"{SHUT}{{{{ workspace }}}}{OPEN}")
    return re.sub(rf"(?<![\w/]){re.escape(name)}(?!\w)", f"{SHUT}{{{{ workspace.split('/')[-1] }}}}{OPEN}", raw)
