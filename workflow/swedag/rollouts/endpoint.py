"""One model call to an OpenAI-compatible endpoint, bounded in time, size and price; every failure has a name.

Refusals that may pass (connection, 408, 409, 429, 5xx) are tried again by the client itself, after the time that the
endpoint asks for (Retry-After, up to a minute) or with growing pauses.
"""

import asyncio
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from swedag.errors import SwedagError
from swedag.rollouts.budget import Bill, Budget
from swedag.rollouts.settings import EndpointSettings
from swedag.scaffolds.protocol import Ask, ContextFullError, Reply

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

RETRIES = 5
MAX_BODY_BYTES = 16_000_000
# What endpoints say when a prompt is too long: OpenAI and vLLM, and others.
FULL = ("context length", "context_length", "context window", "prompt is too long")
# Refusals that no later call will escape: key, money, rights, name of the model.
LASTING = (401, 402, 403, 404)


class EndpointError(SwedagError):
    """No usable answer came: an infrastructure failure, which says nothing about the model."""


@dataclass(frozen=True)
class Sampling:
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """`cached_tokens` are those of the prompt that the endpoint had in its cache."""

    reply: Reply
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True)
class Endpoint:
    """A model behind a URL. `seconds` bounds a call with all its retries; `secret` is kept out of all messages."""

    client: "AsyncOpenAI"
    model: str
    seconds: float
    parameters: dict[str, Any]
    secret: str = ""
    budget: Budget | None = None

    async def chat(self, question: Ask, sampling: Sampling) -> Answer:
        """The model's reply.

        ContextFullError when the prompt is too long, EndpointError when no answer came, BudgetError when it would cost
        too much, SwedagError when no other call will fare better.
        """
        fields = self._fields(question, sampling)
        if self.budget is None:
            return self._read(await self._send(question, fields, Bill(0.0)))
        longest = int(fields.get("max_completion_tokens") or fields.get("max_tokens") or sampling.max_tokens)
        async with self.budget.bill(self.budget.worst(question.messages, longest)) as bill:
            answer = self._read(await self._send(question, fields, bill))
            bill.dollars = self.budget.prices.dollars(
                answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens
            )
            return replace(answer, dollars=bill.dollars)

    def _fields(self, question: Ask, sampling: Sampling) -> dict[str, Any]:
        usual = {
            "stop": list(question.stop) or None,
            "response_format": {"type": "json_object"} if question.json else None,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        return {name: value for name, value in (usual | self.parameters).items() if value is not None}

    async def _send(self, question: Ask, fields: dict[str, Any], bill: Bill) -> bytes:
        """The body of the answer. A call that was refused, or did not get through, costs nothing."""
        import httpx
        from openai import APIConnectionError, APIStatusError

        try:
            async with asyncio.timeout(self.seconds):
                return await self._body(question, fields)
        except TimeoutError as error:
            raise EndpointError(f"no answer within request_seconds = {self.seconds:g}") from error
        except APIStatusError as error:
            bill.dollars = 0.0
            self._refuse(error)
        except APIConnectionError as error:
            bill.dollars = 0.0
            raise EndpointError(self._brief(f"{type(error).__name__}: {error.__cause__ or error}")) from error
        except httpx.HTTPError as error:
            raise EndpointError(self._brief(f"{type(error).__name__}: {error.__cause__ or error}")) from error

    def _refuse(self, error: "APIStatusError") -> NoReturn:
        said = self._brief(error)
        if error.status_code in LASTING or error.code == "insufficient_quota":
            asked = f"{self.model} of {self.client.base_url}"
            raise SwedagError(f"{asked} refuses all calls: status {error.status_code}: {said}") from error
        if error.status_code == 400 and any(words in str(error).lower() for words in FULL):
            raise ContextFullError(said) from error
        problem = "the request was refused" if error.status_code == 400 else f"status {error.status_code}"
        raise EndpointError(f"{problem}: {said}") from error

    async def _body(self, question: Ask, fields: dict[str, Any]) -> bytes:
        # By `extra_body`, since the client looks into each message given as `messages` for a quarter of a millisecond.
        messages = [message.model_dump() for message in question.messages]
        request = self.client.chat.completions.with_streaming_response.create(
            model=self.model, messages=[], extra_body={"messages": messages} | fields
        )
        body = bytearray()
        async with request as response:
            async for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise EndpointError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
        return bytes(body)

    def _read(self, body: bytes) -> Answer:
        from openai.types.chat import ChatCompletion

        try:
            completion = ChatCompletion.model_validate_json(body)
        except ValidationError as error:
            found = self._brief(body.decode(errors="replace")) or "nothing"
            raise EndpointError(f"the answer is not a chat completion: {found}") from error
        usage = completion.usage
        if not completion.choices or usage is None:
            raise EndpointError("the answer has no choices, or does not count its tokens")
        choice, details = completion.choices[0], usage.prompt_tokens_details
        text = choice.message.content or ""
        if not text and not usage.completion_tokens:
            raise EndpointError("the answer is empty, of no token at all")
        return Answer(
            Reply(text, truncated=choice.finish_reason == "length"),
            usage.prompt_tokens,
            usage.completion_tokens,
            (details.cached_tokens if details else None) or 0,
        )

    def _brief(self, text: object) -> str:
        """One line of a message, without the key, which some endpoints repeat."""
        line = " ".join(str(text).split())
        line = line.replace(self.secret, "[key]") if self.secret else line
        return line if len(line) <= 300 else line[:300] + "…"


def connect(
    base_url: str, api_key: str, model: str, seconds: float, connections: int, retries: int = RETRIES
) -> Endpoint:
    """A server of our own, to be asked from the running event loop, with as many connections as calls at once."""
    return Endpoint(_client(base_url, api_key, seconds, connections, retries, proxies=False), model, seconds, {})


def connect_outside(settings: EndpointSettings, seconds: float, connections: int, budget: Budget | None) -> Endpoint:
    """An endpoint of somebody else's, by the proxies of the environment."""
    key = key_of(settings)
    client = _client(settings.base_url, key or "none", seconds, connections, settings.retries, proxies=True)
    return Endpoint(client, settings.model, seconds, settings.parameters, key, budget)


def key_of(settings: EndpointSettings) -> str:
    """The key from its variable; SwedagError where that is not set."""
    if settings.key_variable is None:
        return ""
    key = os.environ.get(settings.key_variable, "").strip()
    if not key:
        raise SwedagError(f"{settings.base_url} needs a key: set the environment variable {settings.key_variable}")
    return key


def _client(
    base_url: str, api_key: str, seconds: float, connections: int, retries: int, *, proxies: bool
) -> "AsyncOpenAI":
    import httpx
    from openai import AsyncOpenAI

    transport = httpx.AsyncClient(
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=seconds,
        trust_env=proxies,
    )
    return AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=retries, http_client=transport)
