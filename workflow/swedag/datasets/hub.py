"""`swedag fetch-dataset`: a split of a dataset of the Hugging Face Hub at a pinned revision, as parquet or JSONL.

Needs a network once; what the Hub's cache holds is taken from there, and with HF_HUB_OFFLINE=1 from nowhere else.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag.artifacts import replacing
from swedag.errors import SwedagError


class HubSource(BaseModel):
    """A dataset of the Hugging Face Hub. Its rows are fetched by a rule of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub"] = Field("hub", description="From the Hugging Face Hub")
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Owner and name, e.g. SWE-Gym/SWE-Gym-Lite")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="The commit, 40 hexadecimal digits")
    split: str = Field("train", pattern=r"^[\w.]+$", description="Split: train for SWE-Gym, test for SWE-bench")

    def rows_file(self) -> str:
        return f"results/datasets/{self.repo}/{self.revision}/{self.split}.parquet"


def main(
    repo: Annotated[str, typer.Option(help="Owner and name on the Hub")],
    revision: Annotated[str, typer.Option(help="The commit, 40 hexadecimal digits")],
    split: Annotated[str, typer.Option(help="The split")],
    output: Annotated[Path, typer.Option(help="The rows (.parquet)")],
) -> None:
    """Fetch a split of a dataset from the Hugging Face Hub. Needs a network; run it on a login node."""
    import pyarrow
    from pyarrow import parquet

    source = HubSource(repo=repo, revision=revision, split=split)
    files = fetch(source)
    try:
        table = pyarrow.concat_tables([parquet.read_table(file) for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise SwedagError(f"{repo}@{revision}: {files[0].name} is no readable parquet file: {error}") from error
    with replacing(output) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def fetch(source: HubSource) -> list[Path]:
    """The split's parquet files in the Hub's cache, in the order of their shards."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    name, pattern = f"{source.repo}@{source.revision}", f"{source.split}-*.parquet"

    def shards(cached: bool) -> list[Path]:
        """The split's files `<split>-00000-of-00002.parquet` …, or none if one is missing."""
        folder = snapshot_download(
            source.repo,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=[pattern, f"data/{pattern}"],
            local_files_only=cached,
        )
        files = sorted(Path(folder).rglob(pattern))
        return files if files and files[0].stem.endswith(f"-of-{len(files):05d}") else []

    try:
        try:
            files = shards(cached=True)
        except LocalEntryNotFoundError:
            files = []
        files = files or shards(cached=False)
    except RepositoryNotFoundError as error:
        raise SwedagError(f"{name}: no such dataset on the Hub, or it is gated and HF_TOKEN is not set") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SwedagError(
            f"{name}, split {source.split}: neither in the Hub's cache nor to be fetched: {error}; run this step where "
            "the Hub is reachable, or name a local copy (source: {kind: file, path: …})"
        ) from error
    if not files:
        raise SwedagError(f"{name}: no whole split {source.split!r} ({pattern}) at this revision; SWE-bench's is test")
    return files
