"""A rollout: what one policy said and did on one instance in one run. Written by rollouts, read by everything after."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant"]
Exit = Literal["submitted", "max_turns", "max_tokens", "context", "stuck", "infrastructure"]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    content: str


class Rollout(BaseModel):
    """One attempt. `exit` is `infrastructure` when no verdict on the policy may be drawn (server or sandbox died).

    `exit` is `stuck` when the scaffold's own rule found a loop; `repeated` tells of the paper's words for it, the very
    same action in the last three turns. `cached_tokens`, where an endpoint tells, are those of the prompts that it had
    in its cache; `dollars` is what the calls cost by the config's prices. A scaffold of independent calls (moatless)
    begins each with a system message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_id: str
    run: int
    policy: str
    scaffold: str
    seed: int
    temperature: float
    messages: list[Message]
    patch: str
    exit: Exit
    error: str = ""
    repeated: bool = False
    turns: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    dollars: float = 0.0
    seconds: float
    attempts: int = 1

    def conversations(self) -> list[list[Message]]:
        """The messages cut where a system message begins a conversation of its own."""
        starts = [place for place, message in enumerate(self.messages) if place == 0 or message.role == "system"]
        return [self.messages[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
