"""`swedag slim-images`: whole images that share their environment, split into that one environment and a layer each.

In: SIFs converted from a registry. Out: an environment image with every file outside /testbed that all of them have,
and per image a squashfs with the rest of its files, /testbed first of all. Environment and layer together are the image
again, file by file; nothing has to be hidden, since the environment holds only what every image has.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from swedag.apptainer import run_tool
from swedag.artifacts import read_jsonl, replacing, sha256_file
from swedag.errors import SwedagError
from swedag.images.record import ImageRecord
from swedag.images.system import wrap
from swedag.node_folder import node_folder
from swedag.squashfs import pack, unpack

BLOCKS = ("-b", "1M")
# A sandbox unpacks its layer with the image's own unsquashfs; an image without one is given this machine's.
UNSQUASHFS = "opt/swedag/unsquashfs"

Content = dict[str, str]


def main(
    images: Annotated[list[Path], typer.Option(help="Whole images of one environment (<instance_id>.sif)")],
    environment: Annotated[Path, typer.Option(help="The environment that they share (.sif)")],
    layers: Annotated[Path, typer.Option(help="Folder of the layers (<instance_id>.sqsh)")],
    records: Annotated[
        list[Path] | None, typer.Option(help="What came of the images (.jsonl of registry-image); missing: left out")
    ] = None,
) -> None:
    """Split whole images into the environment that they share and a thin layer each."""
    pulled = [record for path in records or [] for record in read_jsonl(path, ImageRecord)]
    missing = {record.instance_id for record in pulled if record.outcome == "missing"}
    present = [image for image in images if image.stem not in missing]
    absent = [image for image in present if not image.is_file()]
    if absent:
        again = f"; delete {', '.join(map(str, records))} to have it pulled again" if records else ""
        raise SwedagError(f"{absent[0]}: no such image{again}")
    if not present:
        raise SwedagError(f"environment {environment.stem}: the registry has none of its {len(images)} images")
    split(present, environment, layers)


def split(images: list[Path], environment: Path, layers: Path) -> None:
    """One image is unpacked at a time, into the temporary folder; each is read twice."""
    if len({image.stem for image in images}) < len(images):
        raise SwedagError("--images: two images have the same name, so their layers would, too")
    shared = shared_content(images)
    with _unpacked(images[0]) as root:
        _keep(root, shared)
        if not (root / "usr/bin/unsquashfs").exists():
            _plant_unsquashfs(root)
        (root / "testbed").mkdir(exist_ok=True)
        with node_folder("slim") as folder, replacing(environment) as temporary:
            squashed = folder / "root.sqsh"
            pack(f"environment {environment.stem}", root, squashed, 3, BLOCKS)
            wrap(f"environment {environment.stem}", squashed, temporary)
    for image in images:
        with _unpacked(image) as root, replacing(layers / f"{image.stem}.sqsh") as temporary:
            _keep(root, {path: kept for path, kept in content(root).items() if shared.get(path) != kept})
            pack(f"layer {image.stem}", root, temporary, 9, BLOCKS)


def shared_content(images: list[Path]) -> Content:
    """What all images have outside /testbed, and have alike."""
    shared: Content = {}
    for number, image in enumerate(images):
        with _unpacked(image) as root:
            found = content(root)
        shared = found if number == 0 else {path: one for path, one in shared.items() if found.get(path) == one}
    return {path: one for path, one in shared.items() if path.split("/")[0] != "testbed"}


def content(root: Path) -> Content:
    """By path: kind and mode, and the target of a link or the digest of a file."""
    found: Content = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            what = str(path.readlink()) if stat.S_ISLNK(mode) else sha256_file(path) if stat.S_ISREG(mode) else ""
            found[str(path.relative_to(root))] = f"{stat.filemode(mode)} {what}"
    return found


def _keep(root: Path, wanted: Content) -> None:
    """Remove all that is not wanted, and folders that are left empty for it."""
    for folder, names, files in os.walk(root, topdown=False):
        for name in [*files, *names]:
            path = Path(folder, name)
            if str(path.relative_to(root)) in wanted:
                continue
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                path.unlink()


@contextmanager
def _unpacked(image: Path) -> Iterator[Path]:
    with node_folder("slim") as folder:
        root = folder / "root"
        unpack(f"{image}: could not be unpacked", image, root)
        yield root


def _plant_unsquashfs(root: Path) -> None:
    """This machine's program with its libraries and their loader, so that it fits any image."""
    program = shutil.which("unsquashfs")
    if program is None:
        raise SwedagError("the program `unsquashfs` is not installed; `swedag doctor` says how")
    libraries = re.findall(r"(/\S+) \(0x", run_tool("unsquashfs", "ldd", program))
    folder = root / UNSQUASHFS
    folder.mkdir(parents=True)
    for file in [program, *libraries]:
        shutil.copy(file, folder / Path(file).name)
    loader = next(Path(file).name for file in libraries if Path(file).name.startswith("ld-"))
    started = root / "usr/local/bin/unsquashfs"
    started.parent.mkdir(parents=True, exist_ok=True)
    started.write_text(
        f'#!/bin/sh\nexec /{UNSQUASHFS}/{loader} --library-path /{UNSQUASHFS} /{UNSQUASHFS}/unsquashfs "$@"\n'
    )
    started.chmod(0o755)
