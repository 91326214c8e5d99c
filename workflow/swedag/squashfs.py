"""Squashfs images, those inside SIFs too: where one begins, unpacking it, and packing a folder bit-reproducibly."""

import re
from pathlib import Path

from swedag.apptainer import find_apptainer, run_tool
from swedag.errors import SwedagError

QUIETLY = ("-quiet", "-no-progress", "-no-xattrs")
BARE = ("-noappend", *QUIETLY, "-all-root", "-all-time", "0", "-mkfs-time", "0")


def squashfs_offset(image: Path) -> str:
    """Where the squashfs begins in the file: at its start, or at the system partition of a SIF."""
    with image.open("rb") as stream:
        if stream.read(4) == b"hsqs":
            return "0"
    listing = run_tool(f"{image}: not an Apptainer image", find_apptainer(), "sif", "list", image)
    partition = re.search(r"\|(\d+)-\d+\s*\|FS \(Squashfs/\*System", listing)
    if not partition:
        raise SwedagError(f"{image}: holds no squashfs system partition; rebuild it with `swedag environment-image`")
    return partition[1]


def unpack(what: str, image: Path, folder: Path, *paths: str, options: tuple[str, ...] = ()) -> None:
    """The content of an image (.sif or .sqsh), or of these paths in it, into `folder`."""
    offset = ("-offset", squashfs_offset(image))
    run_tool(what, "unsquashfs", *QUIETLY, *options, *offset, "-dest", folder, image, *paths)


def pack(what: str, folder: Path, image: Path, level: int, options: tuple[str, ...] = ()) -> None:
    """The content of a folder as a squashfs, without owners and times; `level` of zstd."""
    compression = ("-comp", "zstd", "-Xcompression-level", str(level))
    run_tool(what, "mksquashfs", folder, image, *BARE, *compression, *options)


def inodes(image: Path) -> int:
    """How many files, folders and links an image holds."""
    said = run_tool(f"{image}: not a squashfs", "unsquashfs", "-s", "-offset", squashfs_offset(image), image)
    found = re.search(r"Number of inodes (\d+)", said)
    return int(found[1]) if found else 0
