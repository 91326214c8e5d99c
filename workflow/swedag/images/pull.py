"""A published image as a SIF: tag -> digest -> one conversion by Apptainer, however many ask for it.

In: names of images in a registry. Out: a record of what came of each; a missing image is a record, too.
The SIF lies under its digest in `oci/`, next to the facts that make it believed: they are written last, so that what a
killed conversion left is done again. `instances/<instance_id>.sif` links to it.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from rich.console import Console
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from swedag.apptainer import find_apptainer, run_tool
from swedag.artifacts import replacing, sha256_file, write_json, write_jsonl
from swedag.errors import SwedagError
from swedag.images.environment import COMPRESSION
from swedag.images.record import ImageRecord
from swedag.images.registry import Reference, credentials, parse, resolve
from swedag.lease import DEAD_SECONDS, lease

ATTEMPTS = 3


class RegistrySettings(BaseModel):
    """Images that somebody has published, one per instance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["registry"] = Field(description="From a registry")
    image: str = Field(
        "docker.io/xingyaoww/sweb.eval.x86_64.{instance}:latest",
        description="Name of an instance's image; {instance} is its id in lower case with `separator` for `__`",
    )
    separator: str = Field("_s_", description="`_s_` for SWE-Gym, `_1776_` for SWE-bench")
    activate: str = Field(
        "source /opt/miniconda3/bin/activate testbed", description="Enters the image's environment before the tests"
    )
    moved: Literal["refuse", "renew"] = Field(
        "refuse", description="When a tag no longer has the digest of the ledger: stop, or take the new image"
    )

    @field_validator("image")
    @classmethod
    def _names_an_image(cls, image: str) -> str:
        if "{instance}" not in image:
            raise ValueError("holds no {instance}, so all instances would have the same image")
        parse(image.replace("{instance}", "x"))
        return image

    slim: bool = Field(
        False, description="Split images whose environments config/specs calls the same into that one and thin layers"
    )

    def environment_of(self, specified: str, version: str) -> str:
        """The image that an instance shares with others, whose spec calls its environment `specified`, if any."""
        return f"{specified}.published" if self.slim else ""

    def image_of(self, instance_id: str) -> str:
        return self.image.replace("{instance}", instance_id.replace("__", self.separator).lower())


class Facts(BaseModel):
    """A converted image: OCI digest, content hash and size of the SIF, and what its conversion took."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    digest: str
    sha256: str
    bytes: int
    seconds: float


def main(
    instance: Annotated[list[str], typer.Option(help="instance_ids")],
    settings: Annotated[str, typer.Option(help="RegistrySettings as JSON")],
    images: Annotated[Path, typer.Option(help="Folder of the images")],
    output: Annotated[Path, typer.Option(help="A record for each (.jsonl)")],
) -> None:
    """Make SIFs of instances from their published images. Needs a network; run it on a login node.

    What an earlier, killed run has converted is found by its digest and not pulled again.
    """
    console = Console(stderr=True)
    chosen = RegistrySettings.model_validate_json(settings)

    def say(message: str) -> None:
        console.print(message, highlight=False, markup=False, soft_wrap=True)

    write_jsonl(output, [pull_instance(name, chosen, images, say) for name in instance])


def pull_instance(
    instance_id: str, settings: RegistrySettings, images: Path, say: Callable[[str], None]
) -> ImageRecord:
    """Resolve, compare with what the ledger has for that tag, convert unless it is there, link."""
    name = settings.image_of(instance_id)
    reference = parse(name)
    link = images / "instances" / f"{instance_id}.sif"
    answer = resolve(reference, say)
    if not answer.digest:
        link.unlink(missing_ok=True)
        say(f"{name}: {answer.reason}")
        return ImageRecord(instance_id=instance_id, image=name, outcome="missing", reason=answer.reason)
    tag = images / "oci/tags" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
    former = _facts(tag)
    moved_from = former.digest if former and former.digest != answer.digest else ""
    if moved_from:
        moved = f"{name}: the tag has moved: the ledger has {moved_from}, the registry now has {answer.digest}"
        if settings.moved == "refuse":
            raise SwedagError(f"{moved}. Write `moved: renew` to take the new one; results with the old are then stale")
        say(f"{moved}, which is taken")
    facts = convert(reference, answer.digest, images / "oci", say)
    write_json(tag, facts.model_dump(mode="json") | {"image": name})
    sif = sif_of(images / "oci", answer.digest)
    _link(link, sif)
    return ImageRecord(
        instance_id=instance_id,
        image=name,
        outcome="converted",
        digest=answer.digest,
        moved_from=moved_from,
        file=str(sif.relative_to(images)),
        sha256=facts.sha256,
        bytes=facts.bytes,
        seconds=facts.seconds,
    )


def sif_of(store: Path, digest: str) -> Path:
    return store / f"{digest.replace(':', '-')}.sif"


def convert(
    reference: Reference, digest: str, store: Path, say: Callable[[str], None], dead_seconds: float = DEAD_SECONDS
) -> Facts:
    """The SIF of `digest` in `store`, made by whoever asks first; the others wait for it."""
    sif = sif_of(store, digest)
    proof = sif.with_suffix(".json")
    with lease(sif.with_suffix(".lock"), lambda message: say(f"{reference}: {message}"), dead_seconds):
        known = _facts(proof)
        if known and sif.is_file() and sif.stat().st_size == known.bytes:
            return known
        prefix = f"swedag-{digest[7:23]}-"
        for leftover in [*store.glob(f".{sif.name}.*"), *Path(tempfile.gettempdir()).glob(f"{prefix}*")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        proof.unlink(missing_ok=True)
        resolve(reference, say, to_pull=True)
        started = time.monotonic()
        retrying = Retrying(
            retry=retry_if_exception_type(SwedagError),
            wait=wait_random_exponential(multiplier=1, max=60),
            stop=stop_after_attempt(ATTEMPTS),
            before_sleep=lambda state: say(f"{reference}: attempt {state.attempt_number} failed, trying again"),
            reraise=True,
        )
        retrying(_build, reference, digest, sif, prefix, say)
        facts = Facts(
            image=str(reference),
            digest=digest,
            sha256=sha256_file(sif),
            bytes=sif.stat().st_size,
            seconds=round(time.monotonic() - started, 3),
        )
        write_json(proof, facts.model_dump(mode="json"))
        return facts


def _build(reference: Reference, digest: str, sif: Path, prefix: str, say: Callable[[str], None]) -> None:
    """One conversion, with a cache and a temporary folder of its own. Credentials go by the environment."""
    known = credentials(reference.host)
    secrets = {"APPTAINER_DOCKER_USERNAME": known.user, "APPTAINER_DOCKER_PASSWORD": known.password} if known else {}
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, replacing(sif) as temporary:
        cache, unpacked = Path(folder) / "cache", Path(folder) / "tmp"
        cache.mkdir()
        unpacked.mkdir()
        try:
            run_tool(
                f"{reference} ({digest})",
                *(find_apptainer(), "--quiet", "build", "--force", "--mksquashfs-args", COMPRESSION),
                *(["--no-https"] if reference.plain_http else []),
                *(temporary.resolve(), f"docker://{reference.at(digest)}"),
                env={"APPTAINER_CACHEDIR": str(cache), "APPTAINER_TMPDIR": str(unpacked)} | secrets,
            )
        except SwedagError as error:
            if "toomanyrequests" in str(error).lower():
                resolve(reference, say, to_pull=True)
            raise


def _facts(path: Path) -> Facts | None:
    """What a file says; nothing when it is absent or broken, since the conversion is then to be done again."""
    try:
        return Facts.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    with replacing(link) as temporary:
        temporary.unlink()
        temporary.symlink_to(Path("..") / target.relative_to(link.parent.parent))
