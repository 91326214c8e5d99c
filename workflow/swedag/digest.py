"""What a large file or folder holds, told from samples of it."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from swedag.artifacts import sha256

WHOLE_BYTES = 64 * 2**20
SAMPLES, SAMPLE_BYTES = 256, 2**16


@lru_cache(maxsize=4096)
def digest(path: Path) -> str:
    """Digest of a file, or of a folder's files and names. Of files over 64 MiB, evenly spread samples and the size.

    Training changes every tensor, and a rebuilt image every compressed block: samples tell, and 60 GB need not be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256("\n".join(f"{file.relative_to(path)} {digest(file)}" for file in files))
    size = path.stat().st_size
    total = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for offset in _offsets(size):
            stream.seek(offset)
            total.update(stream.read(SAMPLE_BYTES))
    return total.hexdigest()


def _offsets(size: int) -> Iterable[int]:
    if size <= WHOLE_BYTES:
        return range(0, size, SAMPLE_BYTES)
    last = size - SAMPLE_BYTES
    return (last * i // (SAMPLES - 1) for i in range(SAMPLES))
