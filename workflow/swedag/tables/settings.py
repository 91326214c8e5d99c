"""What a table of the config may say. The Snakefile reads these models, too, to know a table's inputs."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swedag.errors import SwedagError
from swedag.metrics.curves import Estimator, Variant, parse_ks
from swedag.metrics.reading import Missing
from swedag.reference import Reference


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    caption: str = Field("", description="Stands above the table")


class _OfSets(_Table):
    sets: list[str] = Field(
        min_length=1,
        description="Rollout sets, one row or block of rows each; SET@VERIFIER with the scores of that verifier, "
        "SET.first with run 0 alone, where it has a temperature of its own",
    )
    labels: list[str] = Field([], description="What to call the sets, in their order; by default their names")
    reference: Reference | None = Field(None, description="The paper's values to stand beside ours")

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


class IterationsTable(_OfRates):
    """Resolve rates of policies side by side, with paired differences to the one before and to the first."""

    kind: Literal["iterations"]
    block: int | None = Field(
        None, ge=1, description="So many rows belong together, from the first: only they are compared with each other"
    )


class ScalingTable(_OfRates):
    """Pass@k and Best@k by the number of attempts."""

    kind: Literal["scaling"]
    k: str = Field("1-16", description="Numbers of attempts, as in 1-16 or 1,2,4-8")
    estimator: Estimator = Field("closed", description="closed, or the paper's 100 shuffles")
    variant: Variant = Field("openhands", description="Which of the paper's two estimators")

    @model_validator(mode="after")
    def _ks(self) -> Self:
        try:
            parse_ks(self.k)
        except SwedagError as error:
            raise ValueError(error) from error
        return self


class SuccessesTable(_OfSets):
    """How often each instance was resolved, those most often first, and what a cap per instance would keep."""

    kind: Literal["successes"]


class _OfTrainingSets(_Table):
    training_sets: list[str] = Field(min_length=1, description="Training sets, in order")


class SetsTable(_OfTrainingSets):
    """Training sets: rollouts in, rows out, and what each filter took."""

    kind: Literal["sets"]


class SourcesTable(_OfTrainingSets):
    """Repositories, one row each: how many rollouts of each training set are from them."""

    kind: Literal["sources"]
    reference: Reference | None = Field(
        None, description="The paper's values; `columns` maps a training set to a column of the paper's table"
    )


class LengthsTable(_OfTrainingSets):
    """How long the rollouts behind training sets are, in messages and tokens, those resolved and the others."""

    kind: Literal["lengths"]
    reference: Reference | None = Field(
        None, description="The paper's values, by its columns `quantity` and `resolved`"
    )


class _OfDatasets(_Table):
    datasets: list[str] = Field(min_length=1, description="Datasets, in order")
    reference: Reference | None = Field(
        None, description="The paper's values; `columns` maps a dataset to a column of the paper's table"
    )


class StatisticsTable(_OfDatasets):
    """Datasets side by side: how many instances, how long the issues, how big the patches, how many tests."""

    kind: Literal["statistics"]
    code: bool = Field(
        False,
        description="Read the code, too, in layers or mirrors: its size, and edited functions from whole files",
    )


class DatasetsTable(_OfDatasets):
    """Datasets, one row each: what they are made of, and how many instances they have."""

    kind: Literal["datasets"]
    reference: Reference | None = Field(
        None, description="The paper's values; `rows` chooses one of its rows for each dataset"
    )

    @model_validator(mode="after")
    def _one_row_each(self) -> Self:
        if self.reference and len(self.reference.rows) != len(self.datasets):
            raise ValueError(f"reference.rows: {len(self.reference.rows)} for {len(self.datasets)} datasets")
        return self


class RepositoriesTable(_OfDatasets):
    """Repositories, one row each: how many instances of each dataset they have."""

    kind: Literal["repositories"]


TableSettings = Annotated[
    IterationsTable
    | ScalingTable
    | SuccessesTable
    | SetsTable
    | SourcesTable
    | LengthsTable
    | StatisticsTable
    | DatasetsTable
    | RepositoriesTable,
    Field(discriminator="kind"),
]


def sets_of(table: TableSettings) -> list[str]:
    """Rollout sets whose attempts a table needs."""
    return list(table.sets) if isinstance(table, _OfSets) else []


def cards_of(table: TableSettings) -> list[str]:
    """Training sets whose data cards a table needs."""
    return list(table.training_sets) if isinstance(table, _OfTrainingSets) else []


def datasets_of(table: TableSettings) -> list[str]:
    """Datasets whose instances a table needs."""
    return list(table.datasets) if isinstance(table, _OfDatasets) else []


def code_of(table: TableSettings) -> list[str]:
    """Datasets whose instances' code a table needs."""
    return list(table.datasets) if isinstance(table, StatisticsTable) and table.code else []


def references_of(table: TableSettings) -> list[str]:
    """Tables of config/reference that a table needs."""
    return [table.reference.file] if not isinstance(table, SetsTable) and table.reference else []
