"""The environment image: the wheels of an environment installed over the operating-system image, by Apptainer.

The build has no network and needs no privilege: Apptainer runs the definition as root of a user namespace.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from swedag.apptainer import build_folder, find_apptainer, run_tool
from swedag.artifacts import replacing
from swedag.node_folder import node_folder

# Apptainer's own default, gzip, is slower to make and to read, and larger.
COMPRESSION = "-comp zstd -Xcompression-level 3"


def main(
    os_image: Annotated[Path, typer.Option("--os", help="The operating-system image (.sif)")],
    wheels: Annotated[Path, typer.Option(help="The wheels (.tar)")],
    definition: Annotated[Path, typer.Option(help="The Apptainer definition, with arguments OS and WHEELS")],
    output: Annotated[Path, typer.Option(help="The image (.sif)")],
) -> None:
    """Build an environment image with Apptainer, without a network."""
    with (
        node_folder("env", build_folder()) as folder,
        replacing(output) as temporary,
    ):
        what, unpacked = f"environment {output.stem}", folder / "wheels"
        unpacked.mkdir()
        run_tool(what, "tar", "-x", "-f", wheels, "-C", unpacked)
        run_tool(
            what,
            *(find_apptainer(), "--quiet", "build", "--force", *privilege(), "--mksquashfs-args", COMPRESSION),
            *("--build-arg", f"OS={os_image.resolve()}", "--build-arg", f"WHEELS={unpacked}"),
            *(temporary.resolve(), definition),
            env={"APPTAINER_TMPDIR": str(folder)},
        )


def privilege() -> list[str]:
    """--fakeroot for everyone but a root without a range of ids: root may lack capabilities that a build asks for."""
    if os.geteuid() != 0:
        return ["--fakeroot"]
    ranges = Path("/etc/subuid")
    has_range = ranges.is_file() and any(line.startswith(("root:", "0:")) for line in ranges.read_text().splitlines())
    return ["--fakeroot"] if has_range else []
