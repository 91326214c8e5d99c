"""Settings of a rollout set and of an endpoint, as they stand in the config."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from swedag.sandbox import Limits
from swedag.scaffolds import ScaffoldSettings, others
from swedag.serving import ServingSettings
from swedag.source import code

# Keys that say how fast, how patiently or at what price a job works, not what it samples: a change leaves finished
# rollouts valid.
OPERATIONAL = {"concurrency", "attempts", "max_infrastructure_failures", "request_seconds", "grace_seconds"}
OPERATIONAL |= {"max_dollars"}
TERMS = {"key_variable", "retries", "dollars_per_million"}
MILLION = 1e6


class Prices(BaseModel):
    """What an endpoint charges, in dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, description="Tokens of prompts")
    cached_input: float | None = Field(
        None, ge=0, description="Tokens of prompts that the endpoint had in its cache; null for the price of the others"
    )
    output: float = Field(ge=0, description="Tokens of replies, those of reasoning included")

    def dollars(self, prompt: int, cached: int, completion: int) -> float:
        """Price of a call; the `cached` tokens are among those of the prompt."""
        again = self.input if self.cached_input is None else self.cached_input
        return ((prompt - cached) * self.input + cached * again + completion * self.output) / MILLION


class EndpointSettings(BaseModel):
    """A model behind any OpenAI-compatible URL, such as a teacher: it is sampled, but never trained or downloaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["endpoint"] = Field("endpoint", description="Behind a URL")
    base_url: str = Field(
        pattern=r"^https?://[^/@?#]+(/[^@?#]*)?$", description="Where it answers, such as https://api.example.org/v1"
    )
    model: str = Field(min_length=1, description="Its name there")
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable with the key, which is written nowhere; null where no key is needed",
    )
    dollars_per_million: Prices | None = Field(None, description="Prices; null where calls cost nothing")
    parameters: dict[str, Any] = Field(
        {}, description="Further fields of each request, such as max_completion_tokens; null leaves a usual one out"
    )
    retries: int = Field(
        8, ge=0, description="Further tries of a call that is refused for the moment (429, 5xx) or does not get through"
    )


class RolloutSettings(BaseModel):
    """How rollouts are sampled: the scaffold, the sampling of the model, its server, and what to do about failures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scaffold: ScaffoldSettings = Field(description="The scaffold and its options")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature")
    first_temperature: float | None = Field(None, ge=0, description="Temperature of run 0, if another; 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling")
    max_tokens: int = Field(1024, ge=1, description="Longest reply, in tokens")
    seed: int = Field(0, ge=0, description="Every instance and run draws its own seed from this one")
    serving: ServingSettings = Field(
        default_factory=ServingSettings, description="The vLLM server of each job; an endpoint needs none"
    )
    sandbox: Limits = Field(default_factory=Limits, description="Bounds of each sandbox")
    concurrency: int = Field(64, ge=1, description="Rollouts at once, at most; fewer while the server's cache is full")
    request_seconds: float = Field(600, gt=0, description="Time limit of one model call")
    attempts: int = Field(3, ge=1, description="Attempts per rollout, and server starts per job, when machinery fails")
    max_infrastructure_failures: float = Field(
        0.05, ge=0, le=1, description="Share of a job's rollouts that machinery may have prevented before the job fails"
    )
    grace_seconds: float = Field(20, ge=0, description="Time for running rollouts to end when the job is told to stop")
    max_dollars: float | None = Field(
        None,
        gt=0,
        description="What the calls of one job may cost, at an endpoint with prices; at that the job stops, and goes "
        "on where it was once the value is higher",
    )

    def temperature_of(self, run: int) -> float:
        return self.temperature if run or self.first_temperature is None else self.first_temperature


def decisive(settings: RolloutSettings, endpoint: EndpointSettings | None) -> dict[str, Any]:
    """What of the settings decides what is sampled: a change of anything else leaves finished rollouts valid."""
    aside = OPERATIONAL | ({"serving"} if endpoint else set())
    asked = endpoint.model_dump(mode="json", exclude=TERMS) if endpoint else None
    return {**settings.model_dump(mode="json", exclude=aside), "endpoint": asked}


def sources(settings: RolloutSettings, endpoint: EndpointSettings | None) -> list[str]:
    """Source files behind such rollouts: no other kind of scaffold, and no server where there is none."""
    return code("rollouts", without=[*others(settings.scaffold.kind), *(["serving"] if endpoint else [])])
