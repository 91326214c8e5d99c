"""The scaffold of the demonstration: one question about the function at fault, one reply, which is an edit.

The language of question and reply is `swedag.edits`. A reply outside of it, or an edit that does not fit the function,
gives an empty patch.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from swedag import edits
from swedag.errors import SwedagError
from swedag.instances import Instance
from swedag.scaffolds.protocol import Attempt, ContextFullError, Finish, ask, read_file


class SingleEditSettings(BaseModel):
    """One model call on the function at fault, answered by one edit."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    early_sandbox: ClassVar[bool] = False

    kind: Literal["single_edit"] = Field("single_edit", description="The single-call scaffold")
    instructions: bool = Field(False, description="Explain the reply's grammar, for a model not trained on it")


def attempt(instance: Instance, settings: SingleEditSettings) -> Attempt:
    """Needs the instance's `target`; reads one file and asks once."""
    target = instance.target
    if target is None:
        raise SwedagError(f"{instance.instance_id}: scaffold single_edit needs a `target`, and the instance has none")
    before = yield from read_file(target.path)
    question = edits.prompt(instance.problem_statement, before, target, settings.instructions)
    try:
        reply = yield from ask(question)
    except ContextFullError as full:
        return Finish("", "context", str(full))
    if reply.truncated:
        return Finish("", "max_tokens")
    edit = edits.parse(reply.text)
    if edit is None:
        return Finish("", "submitted", "the reply is not an edit")
    after = edits.apply(before, target, edit)
    if after is None:
        return Finish("", "submitted", "the edit does not fit the function")
    return Finish(edits.unified_patch(target.path, before, after), "submitted")
