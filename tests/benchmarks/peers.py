"""What the peers' servers run in: a Debian with Python 3.13, and exactly the packages of peers.lock in a folder.

Made on first use in results/benchmarks, the packages again when the lock changes. Needs a network and a few minutes.
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from swedag.apptainer import find_apptainer, run_tool
from swedag.artifacts import replacing_directory, sha256_file
from swedag.images import system
from tests.conftest import ROOT

FOLDER = ROOT / "results" / "benchmarks"
LOCK = Path(__file__).with_name("peers.lock")
# The oldest Debian whose Python OpenHands runs on (>= 3.12).
SUITE, PYTHON = "trixie", "3.13"
INSIDE = "/opt/peers"


@dataclass(frozen=True)
class Peers:
    """The system's image, and the packages with their byte code."""

    image: Path
    packages: Path

    def words(self, module: str) -> list[str]:
        """Arguments of `apptainer exec` that make the packages importable and run one of their modules."""
        return [
            *("--bind", f"{self.packages}:{INSIDE}:ro", "--env", f"PYTHONPATH={INSIDE}"),
            *(str(self.image), "python3", "-m", module),
        ]


@cache
def install() -> Peers:
    """Whatever is missing is made. SwedagError says what could not be."""
    image = FOLDER / f"{SUITE}.sif"
    packages = FOLDER / f"peers-{sha256_file(LOCK)[:12]}"
    if not image.exists():
        system.main(SUITE, image)
    if not packages.exists():
        platforms = [f"manylinux_2_{minor}_{os.uname().machine}" for minor in range(41, 4, -1)]
        with replacing_directory(packages) as folder:
            run_tool(
                f"{LOCK}: the peers' packages could not be installed",
                *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"),
                *("--require-hashes", "--no-deps", "--target", folder, "-r", LOCK),
                # pip compares Requires-Python with its own Python, whatever --python-version says.
                *("--implementation", "cp", "--python-version", PYTHON, "--ignore-requires-python"),
                *[word for platform in platforms for word in ("--platform", platform)],
            )
            compiled = ["python3", "-m", "compileall", "-q", "-x", "py2_raise", INSIDE]  # one file is Python 2
            run_tool(
                "byte code of the peers' packages",
                *(find_apptainer(), "--silent", "exec", "--bind", f"{folder}:{INSIDE}", image, *compiled),
            )
    return Peers(image, packages)
