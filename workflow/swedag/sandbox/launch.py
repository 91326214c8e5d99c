"""How a container is started: the scratch folder, the image unpacked once per node, the command line of Apptainer.

An image is unpacked because a folder starts in half the time of a SIF and is read at the disk's own speed, while a SIF
is read through FUSE, by a process of its own per sandbox. Without the space for that the SIF is used as it is.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path

from swedag.apptainer import find_apptainer
from swedag.sandbox.limits import SandboxError
from swedag.sandbox.scripts import KEEPER
from swedag.squashfs import unpack

# Everything below this is started as root of a fresh user and pid namespace. When its first process dies, the kernel
# ends all the others, Apptainer's own FUSE daemons included, however the death came.
OUTER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
UNUSED_DAYS = 7
# Apptainer's own threads are counted with those of the commands.
OWN_THREADS = 64
RESERVED_PIDS = 300
_unpacking = threading.Lock()


def default_scratch() -> Path:
    """A private folder on the node's own disk: $SWEDAG_SCRATCH, else swedag-<uid> in $TMPDIR or /tmp."""
    named = os.environ.get("SWEDAG_SCRATCH")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"swedag-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SandboxError(
            f"{folder}: belongs to another user; set SWEDAG_SCRATCH to a folder of yours on a local disk"
        )
    return folder


@lru_cache(maxsize=1)
def namespaces_work() -> bool:
    """Whether `unshare` may make namespaces here. Some hosts allow it to Apptainer alone (AppArmor profiles)."""
    try:
        return (
            subprocess.run([*OUTER, "true"], capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0
        )
    except OSError:
        return False


def bounds_of_processes(most: int, release: str = os.uname().release) -> list[str]:
    """Values of `ulimit -u` and of the pid namespace's pid_max ("" where Linux `release` has no such bound).

    RLIMIT_NPROC counts per user namespace since Linux 5.14 (before, it would count all that the user has running), and
    never for user 0 of the host. A pid namespace has a pid_max of its own since 6.14; 300 of its numbers are only used
    in the first round, so it is a coarse bound, but it holds for root.
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    kernel = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    return [
        str(most + OWN_THREADS) if kernel >= (5, 14) else "unlimited",
        str(most + RESERVED_PIDS) if kernel >= (6, 14) else "",
    ]


def command_line(root: Path, lifeline: int) -> list[str]:
    """The words that start a container on `root` (image or folder); what it shall run follows them.

    `lifeline` is the descriptor to read of a pipe; when its other end is closed, all of it ends.
    """
    outer = OUTER if namespaces_work() else ()
    mapped = () if outer else ("--fakeroot", "--ignore-subuid", "--ignore-fakeroot-command")
    return [
        *(*outer, "bash", "-c", KEEPER, "keeper", str(lifeline)),
        *(find_apptainer(), "--silent", "exec", "--containall", "--no-home", "--cleanenv", "--no-init"),
        *("--hostname", "sandbox", *mapped, str(root)),
    ]


def launch_environment(scratch: Path) -> dict[str, str]:
    """The whole environment that Apptainer is given: nothing of ours but where to find its helper programs."""
    return {
        "PATH": f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LC_ALL": "C.UTF-8",
    }


def unpacked(image: Path, scratch: Path) -> Path:
    """The folder that holds the content of `image` (.sif or .sqsh), unpacked into `scratch` by the first who asks.

    A folder is returned as it is, and so is an image for which `scratch` has too little space.
    """
    if image.is_dir():
        return image
    if not image.is_file():
        raise SandboxError(f"{image}: no such environment image")
    image = image.resolve()
    state = image.stat()
    known_by = f"{image} {state.st_size} {state.st_mtime_ns} {state.st_ino}"
    store = scratch / "environments"
    folder = store / f"{image.stem}-{hashlib.sha256(known_by.encode()).hexdigest()[:16]}"
    store.mkdir(mode=0o700, exist_ok=True)
    # The thread lock is for this process, the file lock for the others on the node.
    with _unpacking, (store / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _forget_unused(store)
            if shutil.disk_usage(store).free < 6 * state.st_size:
                return image
            started = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=store))
            try:
                what = f"{image}: could not be unpacked into {store}"
                unpack(what, image, started, options=("-processors", "2", "-force"))
                started.chmod(0o755)
                started.rename(folder)
            finally:
                shutil.rmtree(started, ignore_errors=True)
        os.utime(folder)
    return folder


def _forget_unused(store: Path) -> None:
    """Remove images that no sandbox was started from for a week, and what a killed process left half unpacked."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for folder in store.iterdir():
        if folder.is_dir() and (folder.name.startswith(".unpacking-") or folder.stat().st_mtime < oldest):
            shutil.rmtree(folder, ignore_errors=True)
