"""What a figure of the config may say. The Snakefile reads these models, too, to know a figure's inputs."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swedag.errors import SwedagError
from swedag.metrics.curves import parse_ks
from swedag.metrics.reading import Missing
from swedag.reference import Reference


class _Figure(BaseModel):
    model_config = ConfigDict(extra="forbid")

    caption: str = Field("", description="Stands above the figure")


class _OfSets(_Figure):
    sets: list[str] = Field(
        min_length=1, description="Rollout sets, or SET@VERIFIER or SET.first, one point or pair of curves each"
    )
    labels: list[str] = Field([], description="What to call the sets, in their order; by default their names")
    reference: Reference | None = Field(None, description="The paper's values to draw beside ours")

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if self.labels and len(self.labels) != len(self.sets):
            raise ValueError(f"labels: {len(self.labels)} for {len(self.sets)} sets")
        if self.reference and self.reference.rows and len(self.reference.rows) != len(self.sets):
            raise ValueError(f"reference.rows: {len(self.reference.rows)} for {len(self.sets)} sets")
        return self

    def named(self) -> list[tuple[str, str]]:
        """(label, set), in order."""
        return list(zip(self.labels or self.sets, self.sets, strict=True))


class _OfRates(_OfSets):
    missing: Missing = Field(
        "fail", description="An attempt without a verdict counts as unresolved (fail) or is left out (exclude)"
    )
    seed: int = Field(0, description="Seed of the bootstrap over instances")


class IterationsFigure(_OfRates):
    """Resolve rates with intervals, and what became of the attempts."""

    kind: Literal["iterations"]
    block: int | None = Field(None, ge=1, description="So many points are joined by a line, from the first; null: all")


class ScalingFigure(_OfRates):
    """Pass@k and Best@k by the number of attempts, with bands."""

    kind: Literal["scaling"]
    k: str = Field("1-16", description="Numbers of attempts, as in 1-16 or 1,2,4-8")

    @model_validator(mode="after")
    def _ks(self) -> Self:
        try:
            parse_ks(self.k)
        except SwedagError as error:
            raise ValueError(error) from error
        return self


class SuccessesFigure(_OfSets):
    """How often each instance was resolved, those most often first."""

    kind: Literal["successes"]


class TrainingFigure(_Figure):
    """Loss by step of trained policies."""

    kind: Literal["training"]
    policies: list[str] = Field(min_length=1, description="Policies, one curve each")


class VerifierFigure(_Figure):
    """How a verifier's scores separate resolved from unresolved attempts, and how well they are calibrated."""

    kind: Literal["verifier"]
    sets: list[str] = Field(min_length=1, description="Rollout sets with scores, taken together")
    bins: int = Field(10, ge=2, le=50, description="Bins of the histogram and of the reliability diagram")


FigureSettings = Annotated[
    IterationsFigure | ScalingFigure | SuccessesFigure | TrainingFigure | VerifierFigure,
    Field(discriminator="kind"),
]


def sets_of(figure: FigureSettings) -> list[str]:
    """Rollout sets whose attempts a figure needs."""
    return [] if isinstance(figure, TrainingFigure) else list(figure.sets)


def policies_of(figure: FigureSettings) -> list[str]:
    """Policies whose checkpoints a figure needs."""
    return list(figure.policies) if isinstance(figure, TrainingFigure) else []


def references_of(figure: FigureSettings) -> list[str]:
    """Tables of config/reference that a figure needs."""
    return [figure.reference.file] if isinstance(figure, _OfSets) and figure.reference else []
