"""Where Apptainer is, and build tools run so that a failure shows what was tried and the end of the tool's log.

Apptainer comes from PATH, else from the private prefix `.apptainer/` of this checkout (envs/install-apptainer.sh).
"""

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from swedag.errors import SwedagError

CHECKOUT = Path(__file__).resolve().parents[2]
OLDEST = (1, 2)
MISSING = (
    "Apptainer >= 1.2 was found neither on PATH nor in .apptainer/; run envs/install-apptainer.sh "
    "(as root on Debian or Ubuntu), or `module load apptainer` on a cluster"
)
LINES_SHOWN = 20
MEMORY_WANTED = 4 << 30


def version(program: str) -> tuple[int, ...]:
    """(1, 4, 5) for a program that says "apptainer version 1.4.5-2"; () when it is no working Apptainer."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return ()
    if said[:1] != ["apptainer"]:
        return ()
    return tuple(int(number) for number in said[-1].split("-")[0].split("+")[0].split(".") if number.isdigit())


@lru_cache(maxsize=1)
def find_apptainer() -> str:
    """Absolute path of a usable `apptainer`; SwedagError says how to get one."""
    for candidate in (shutil.which("apptainer"), str(CHECKOUT / ".apptainer/bin/apptainer")):
        if candidate and version(candidate) >= OLDEST:
            return candidate
    raise SwedagError(MISSING)


def build_folder() -> Path | None:
    """Where to unpack a system of some hundred MB for a minute: in memory if there is plenty, else the usual place.

    Thousands of small files are made there, which on many virtual machines' disks takes three times as long.
    """
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return None
    state = os.statvfs(memory)
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), 0)
    forbidden = state.f_flag & (os.ST_NOEXEC | os.ST_NODEV)
    return memory if not forbidden and min(state.f_bavail * state.f_frsize, available) > MEMORY_WANTED else None


def run_tool(what: str, *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of `command`, with `env` added to the environment and nothing on standard input.

    Raises SwedagError that starts with `what` and ends with the last lines of the tool's own log.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise SwedagError(f"{what}: the program `{words[0]}` is not installed; `swedag doctor` says how") from error
    if done.returncode:
        log = (done.stdout + done.stderr).strip().splitlines()
        tail = "\n".join(f"  {line}" for line in log[-LINES_SHOWN:]) or "  (it printed nothing)"
        raise SwedagError(f"{what}: `{Path(words[0]).name}` ended with exit status {done.returncode}:\n{tail}")
    return done.stdout
