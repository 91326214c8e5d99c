"""`swedag restore`: a released artifact by URL and sha256, in place of the job that would have made it.

In: a URL (http, https, file) or a path, and the digest that its bytes must have. Out: the file, or the folder that the
archive holds. With restored attempts, scores or checkpoints the tables after them need neither GPU nor images.
"""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from pydantic import BaseModel, ConfigDict, Field
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from swedag.artifacts import replacing, replacing_directory
from swedag.errors import SwedagError

CHUNK = 2**20
ATTEMPTS = 5


class RestoreSettings(BaseModel):
    """A released artifact. For a folder (a checkpoint, a model) it is a tar archive, of what the folder holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1, description="http://…, https://…, file://… or a path on this machine")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the bytes behind it")


class PassingError(Exception):
    """A failure of the network or the server that may pass."""


def main(
    settings: Annotated[str, typer.Option(help="RestoreSettings as JSON")],
    output: Annotated[Path, typer.Option(help="The artifact")],
    folder: Annotated[bool, typer.Option("--folder", help="The source is an archive; unpack it into a folder")] = False,
) -> None:
    """Fetch a released artifact and check its digest; nothing is left of one that is not what it should be."""
    chosen = RestoreSettings.model_validate_json(settings)
    if not folder:
        with replacing(output) as temporary:
            fetch(chosen, temporary)
        return
    with replacing_directory(output) as inside:
        archive = inside / ".archive"
        fetch(chosen, archive)
        unpack(chosen.source, archive, inside)
        archive.unlink()


def fetch(chosen: RestoreSettings, target: Path) -> None:
    """Write the source's bytes to `target`; SwedagError unless they have the digest."""
    retrying = Retrying(
        retry=retry_if_exception_type(PassingError),
        wait=wait_random_exponential(multiplier=0.5, max=30),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        found = retrying(_copy, chosen.source, target)
    except PassingError as error:
        raise SwedagError(f"{chosen.source}: could not be fetched in {ATTEMPTS} attempts: {error}") from error
    if found != chosen.sha256:
        raise SwedagError(
            f"{chosen.source}: its sha256 is {found}, not {chosen.sha256} as `restore` says; it is not used. "
            "Either the release has changed or the config names the wrong digest"
        )


def _copy(source: str, target: Path) -> str:
    total = hashlib.sha256()
    with _chunks(source) as chunks, target.open("wb") as out:
        for chunk in chunks:
            total.update(chunk)
            out.write(chunk)
    return total.hexdigest()


@contextmanager
def _chunks(source: str) -> Iterator[Iterator[bytes]]:
    if urlsplit(source).scheme in ("http", "https"):
        with _response(source) as chunks:
            yield chunks
        return
    path = Path(unquote(urlsplit(source).path)) if source.startswith("file://") else Path(source)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SwedagError(f"{source}: cannot be read: {error.strerror or error}") from error
    with stream:
        yield iter(lambda: stream.read(CHUNK), b"")


@contextmanager
def _response(url: str) -> Iterator[Iterator[bytes]]:
    import httpx

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response:
            if response.status_code >= 500 or response.status_code == 429:
                raise PassingError(f"the server answers {response.status_code}")
            if response.status_code != 200:
                raise SwedagError(f"{url}: the server answers {response.status_code} {response.reason_phrase}")
            yield response.iter_bytes(CHUNK)
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise PassingError(f"{type(error).__name__}: {error}") from error
    except (httpx.InvalidURL, httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
        raise SwedagError(f"{url}: {error}") from error


def unpack(source: str, archive: Path, folder: Path) -> None:
    """Unpack a tar archive of files and folders, compressed or not; links and outer paths are refused."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _place(tar, member, folder)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise SwedagError(f"{source}: cannot be unpacked as a tar archive: {error}") from error
    # An archive of the folder itself, rather than of what it holds.
    inside = [path for path in folder.iterdir() if path != archive]
    if len(inside) == 1 and inside[0].is_dir():
        for path in inside[0].iterdir():
            shutil.move(path, folder / path.name)
        inside[0].rmdir()


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    # Python's own filters came with 3.11.4, and distributions have older ones.
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise ValueError(f"{member.name!r} is not a file or folder inside of it")
    place = folder / path
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None
    with content, place.open("xb") as out:
        shutil.copyfileobj(content, out)
