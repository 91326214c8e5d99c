"""The operating system below every environment: a minimal Debian with Python, packed into one image.

mmdebstrap makes the folder from Debian's packages (as root or in a user namespace, never privileged otherwise), its
content goes into a bit-reproducible squashfs, and Apptainer wraps that in a SIF. No file keeps an owner or a time.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from swedag.apptainer import build_folder, find_apptainer, run_tool
from swedag.artifacts import replacing
from swedag.errors import SwedagError
from swedag.node_folder import node_folder
from swedag.squashfs import pack

# squashfs-tools: a sandbox unpacks the instance layer with the image's own unsquashfs. python3-venv brings pip's wheel.
PACKAGES = "python3,python3-venv,git,patch,ca-certificates,procps,squashfs-tools"
# Times are set to 0, so byte code must be valid whatever the time of its source; Debian's own is not, hence -f.
COMPILE = """chroot "$1" sh -c 'python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3*'"""
HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"
ARCHITECTURES = {"x86_64": "2", "aarch64": "4"}  # numbers of `apptainer sif add --partarch`


def main(
    suite: Annotated[str, typer.Option(help="Debian release, as bookworm")],
    output: Annotated[Path, typer.Option(help="The image (.sif)")],
    mirror: Annotated[str, typer.Option(help="Debian mirror")] = "http://deb.debian.org/debian",
) -> None:
    """Make the operating-system image from Debian's packages. Needs a network; run it on a login node."""
    what = f"operating system {suite}"
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise SwedagError(f"{what}: no images are made for {machine}; use a machine of {' or '.join(ARCHITECTURES)}")
    mode = "root" if os.geteuid() == 0 else "unshare"
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    with node_folder("os", build_folder()) as folder:
        folder.chmod(0o755)  # in a user namespace mmdebstrap works here under other ids
        archive, root, squashed = [folder / name for name in ("root.tar", "root", "root.sqsh")]
        run_tool(
            f"{what}: {mirror} could not be installed from (is it reachable? does it have {suite}?)",
            *("mmdebstrap", f"--mode={mode}", "--variant=minbase", f"--include={PACKAGES}"),
            *(*without, "--dpkgopt=force-unsafe-io"),
            *(f"--customize-hook={COMPILE}", suite, str(archive), mirror),
            env={"TMPDIR": str(folder)},
        )
        root.mkdir()
        # Unpacked by whoever runs this, owners and devices left out: an image needs neither.
        run_tool(what, "tar", "-x", "-f", archive, "-C", root, "--no-same-owner", "--exclude=./dev/*")
        archive.unlink()
        (root / "etc/hosts").write_text(HOSTS)
        (root / "testbed").mkdir()
        pack(what, root, squashed, 3)
        with replacing(output) as temporary:
            wrap(what, squashed, temporary)


def wrap(what: str, squashed: Path, output: Path) -> None:
    """A SIF, in place of the file `output`, whose one partition is this squashfs of a system."""
    output.unlink()
    run_tool(what, find_apptainer(), "sif", "new", output)
    run_tool(
        what,
        *(find_apptainer(), "sif", "add", "--datatype", "4", "--parttype", "2", "--partfs", "1"),
        *("--partarch", ARCHITECTURES[os.uname().machine], "--groupid", "1", output, squashed),
    )
