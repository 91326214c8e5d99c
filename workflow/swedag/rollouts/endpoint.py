"""One model call to an OpenAI-compatible endpoint, bounded in time and size; every failure has a name.

Refusals that may pass (connection, 408, 409, 429, 5xx) are tried again with growing pauses by the client itself.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from swedag.errors import SwedagError
from swedag.scaffolds.protocol import Ask, ContextFullError, Reply
from swedag.trajectory import Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageParam

RETRIES = 5
MAX_BODY_BYTES = 16_000_000


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
    reply: Reply
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Endpoint:
    """A model behind a URL. `seconds` bounds a call with all its retries."""

    client: "AsyncOpenAI"
    model: str
    seconds: float

    async def chat(self, question: Ask, sampling: Sampling) -> Answer:
        """The model's reply. ContextFullError when the prompt is too long, EndpointError when no answer came."""
        import httpx
        from openai import APIConnectionError, APIStatusError, BadRequestError

        try:
            async with asyncio.timeout(self.seconds):
                body = await self._body(question, sampling)
        except TimeoutError as error:
            raise EndpointError(f"no answer within request_seconds = {self.seconds:g}") from error
        except BadRequestError as error:
            if "context length" in str(error).lower():
                raise ContextFullError(_brief(error)) from error
            raise EndpointError(f"the request was refused: {_brief(error)}") from error
        except APIStatusError as error:
            raise EndpointError(f"status {error.status_code}: {_brief(error)}") from error
        except (APIConnectionError, httpx.HTTPError) as error:
            raise EndpointError(f"{type(error).__name__}: {error.__cause__ or error}") from error
        return _read(body)

    async def _body(self, question: Ask, sampling: Sampling) -> bytes:
        from openai import omit

        request = self.client.chat.completions.with_streaming_response.create(
            model=self.model,
            messages=[_plain(message) for message in question.messages],
            stop=list(question.stop) or None,
            response_format={"type": "json_object"} if question.json else omit,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
        )
        body = bytearray()
        async with request as response:
            async for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise EndpointError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
        return bytes(body)


def connect(
    base_url: str, api_key: str, model: str, seconds: float, connections: int, retries: int = RETRIES
) -> Endpoint:
    """An endpoint to be used from the running event loop, with as many connections as calls at once."""
    import httpx
    from openai import AsyncOpenAI

    transport = httpx.AsyncClient(
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=seconds,
        trust_env=False,
    )
    client = AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=retries, http_client=transport)
    return Endpoint(client, model, seconds)


def _plain(message: Message) -> "ChatCompletionMessageParam":
    if message.role == "system":
        return {"role": "system", "content": message.content}
    if message.role == "user":
        return {"role": "user", "content": message.content}
    return {"role": "assistant", "content": message.content}


def _read(body: bytes) -> Answer:
    from openai.types.chat import ChatCompletion

    try:
        completion = ChatCompletion.model_validate_json(body)
    except ValidationError as error:
        raise EndpointError(f"the answer is not a chat completion: {_brief(body.decode(errors='replace'))}") from error
    if not completion.choices or completion.usage is None:
        raise EndpointError("the answer has no choices, or does not count its tokens")
    choice = completion.choices[0]
    return Answer(
        Reply(choice.message.content or "", truncated=choice.finish_reason == "length"),
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
    )


def _brief(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else line[:300] + "…"
