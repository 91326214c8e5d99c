"""A tool image (training, serving): the wheels of a lock over a base, by Apptainer, and the digest of what it holds.

An image file differs from build to build by its times alone; the digest is of the content, so that an image made again
of the same things makes nothing stale, and one of other things makes stale what ran in it.
"""

from pathlib import Path
from typing import Annotated

import typer

from swedag.apptainer import build_folder, find_apptainer, run_tool
from swedag.artifacts import replacing, write_text
from swedag.images.environment import COMPRESSION, privilege
from swedag.node_folder import node_folder

# Base, environment and what the definition says of variables; not the labels, which hold the time of the build.
CONTENT = "find /usr /opt /.singularity.d/env -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
TOOL_IMAGES = "results/images/tools/"  # where the images lie that are made here
TOOL_LOCKS = {"train-cpu": "train-cpu", "train-gpu": "train-gpu", "serve-cpu": "tools-cpu", "serve-gpu": "serve-gpu"}
IN_MEMORY = 1 << 30  # bytes of wheels that may be unpacked and installed in memory


def main(
    definition: Annotated[Path, typer.Option(help="The Apptainer definition, with arguments BOOTSTRAP, BASE, WHEELS")],
    wheels: Annotated[Path, typer.Option(help="The wheels (.tar)")],
    output: Annotated[Path, typer.Option(help="The image (.sif)")],
    digest: Annotated[Path, typer.Option(help="The digest of its content (.sha256)")],
    base: Annotated[
        Path | None, typer.Option(help="An image to build on (default: the definition's, a Docker image)")
    ] = None,
) -> None:
    """Build a tool image with Apptainer. Needs a network for a Docker base or Debian's packages: use a login node."""
    what = f"tool image {output.stem}"
    folders = build_folder() if wheels.stat().st_size < IN_MEMORY else None
    with (
        node_folder("tool", folders) as folder,
        replacing(output.resolve()) as temporary,
    ):
        unpacked = folder / "wheels"
        unpacked.mkdir()
        run_tool(what, "tar", "-x", "-f", wheels, "-C", unpacked)
        local = ["--build-arg", "BOOTSTRAP=localimage", "--build-arg", f"BASE={base.resolve()}"] if base else []
        run_tool(
            what,
            *(find_apptainer(), "--quiet", "build", "--force", *privilege(), "--mksquashfs-args", COMPRESSION),
            *(*local, "--build-arg", f"WHEELS={unpacked}", str(temporary), str(definition)),
            env={"APPTAINER_TMPDIR": str(folder)},
        )
        inside = (find_apptainer(), "--silent", "exec", "--containall", "--no-home", str(temporary))
        content = run_tool(what, *inside, "sh", "-c", CONTENT).split()[0]
    write_text(digest, f"{content}\n")
