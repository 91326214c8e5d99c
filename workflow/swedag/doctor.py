"""What this machine can and cannot do, and how to mend it. Prints a table; fails if something that is needed lacks.

Each check looks at one thing and returns a `Check`; the important one starts a real sandbox on a minimal image that it
makes of this machine's own programs.
"""

import os
import pwd
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from swedag.apptainer import CHECKOUT, find_apptainer, run_tool, version
from swedag.errors import SwedagError
from swedag.sandbox import Limits, Sandbox
from swedag.sandbox.launch import bounds_of_processes, default_scratch, namespaces_work
from swedag.serving import tool_python
from swedag.site import SITE_FILE

State = Literal["ok", "note", "missing"]
STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "missing": "bold red"}
# What set-up and supervisor of a sandbox call (swedag.sandbox.scripts).
PROGRAMS_INSIDE = ("bash", "mount", "mkdir", "cat", "rm", "unshare", "setpriv", "env", "unsquashfs")
TOOLS = {
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "git": "git",
    "bash": "bash",
    "unshare": "util-linux",
}
SPACE_GB = 5
INODES = 200_000
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Check:
    """One line of the table. "note" is worth knowing and stops nothing; "missing" stops the demonstration."""

    name: str
    state: State
    found: str
    remedy: str = ""


def main() -> None:
    """Check what this machine needs for swedag, and say how to mend what is missing."""
    table = Table(box=SIMPLE, title="swedag doctor", title_justify="left")
    for column in ("check", "state", "found", "what to do"):
        table.add_column(column, overflow="fold")
    failed = False
    for check in checks():
        failed = failed or check.state == "missing"
        table.add_row(check.name, f"[{STYLES[check.state]}]{check.state}[/]", check.found, check.remedy)
    Console().print(table)
    if failed:
        raise typer.Exit(1)


def checks() -> Iterator[Check]:
    """All checks, in the order in which a missing thing makes the next ones fail."""
    looks: tuple[Callable[[], Check], ...] = (
        apptainer, namespaces, programs, subordinate_ids, scratch_space, sandbox, process_bound, directory_xattrs,
        session_size, fuse, cgroups, memory, tools, slurm, gpus, hub,
    )  # fmt: skip
    for look in looks:
        yield look()


def apptainer() -> Check:
    try:
        program = find_apptainer()
    except SwedagError as error:
        return Check("apptainer", "missing", "none", str(error))
    return Check("apptainer", "ok", f"{'.'.join(map(str, version(program)))} at {program}")


def namespaces() -> Check:
    if namespaces_work():
        return Check("user namespaces", "ok", "may be made by unshare")
    remedy = (
        "nothing if the sandbox below starts; else ask for user namespaces "
        "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0)"
    )
    return Check("user namespaces", "note", "not by unshare; left to Apptainer", remedy)


def programs() -> Check:
    absent = sorted({package for program, package in TOOLS.items() if not shutil.which(program)})
    if absent:
        return Check("programs", "missing", f"no {', '.join(absent)}", f"apt-get install {' '.join(absent)}")
    if not shutil.which("mmdebstrap"):
        return Check("programs", "note", "no mmdebstrap", "needed to make the operating-system image here, or copy one")
    return Check("programs", "ok", ", ".join([*TOOLS, "mmdebstrap"]))


def subordinate_ids() -> Check:
    """By the user's name: mmdebstrap does not look for the number, though Apptainer does."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    tables = [Path("/etc/subuid"), Path("/etc/subgid")]
    absent = [str(table) for table in tables if not (table.is_file() and f"\n{name}:" in f"\n{table.read_text()}")]
    if not absent:
        return Check("subordinate ids", "ok", "/etc/subuid and /etc/subgid have a range")
    remedy = f"only to make images here: {name}:FIRST:65536 there, with ids that are nobody else's (as root)"
    return Check("subordinate ids", "note", f"no range of {name} in {' and '.join(absent)}", remedy)


def scratch_space() -> Check:
    folder = default_scratch()
    free, inodes = shutil.disk_usage(folder).free, os.statvfs(folder).f_favail
    kind = _file_system(folder)
    # Some file systems (btrfs) count no inodes and say 0 of 0.
    enough = free > SPACE_GB << 30 and (inodes > INODES or os.statvfs(folder).f_files == 0)
    found = f"{folder} ({kind}): {free >> 30} GB, {inodes:,} inodes free"
    if kind in ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "fuse.sshfs"):
        return Check("scratch", "note", found, "set SWEDAG_SCRATCH to a folder on the node's own disk")
    if not enough:
        return Check("scratch", "note", found, f"set SWEDAG_SCRATCH where {SPACE_GB} GB and {INODES:,} inodes are free")
    return Check("scratch", "ok", found)


def sandbox() -> Check:
    """Start a real one and try what must hold."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=default_scratch()) as folder:
        try:
            root = _minimal_image(Path(folder) / "root")
            begun = time.monotonic()
            with Sandbox(root, None, Limits(disk_mb=16)) as opened:
                took = time.monotonic() - begun
                network = opened.run("cat /proc/net/route", timeout=PATIENCE_SECONDS).output
                written = opened.run("echo x >/written && echo x >/testbed/written", timeout=PATIENCE_SECONDS)
        except SwedagError as error:
            return Check("sandbox", "missing", str(error), "see the checks above, and `apptainer exec` by hand")
    if len(network.splitlines()) > 1:
        return Check("sandbox", "missing", "starts, but has the host's network", "report this as a bug")
    if written.exit_code != 0:
        return Check(
            "sandbox", "note", f"starts in {took * 1000:.0f} ms; only /testbed, /tmp and /dev/shm can be written",
            "Linux >= 5.11 stacks a writable layer over the whole system",
        )  # fmt: skip
    return Check("sandbox", "ok", f"starts in {took * 1000:.0f} ms; writable layer in memory over the whole system")


def process_bound() -> Check:
    of_user, of_namespace = bounds_of_processes(0)
    if of_namespace:
        return Check("bound of processes", "ok", "pid_max of each sandbox's namespace")
    if of_user != "unlimited" and os.getuid() != 0:
        return Check("bound of processes", "ok", "RLIMIT_NPROC of each sandbox's namespace")
    remedy = "run as an ordinary user on Linux >= 5.14" if os.getuid() == 0 else "Linux >= 5.14 bounds it in the kernel"
    return Check("bound of processes", "note", "only by a watchdog, which a fork bomb may outrun", remedy)


def directory_xattrs() -> Check:
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if numbers and (int(numbers[1]), int(numbers[2])) >= (6, 6):
        return Check("writable system folders", "ok", f"Linux {os.uname().release}")
    remedy = "Linux >= 6.6, if agents are to reinstall packages; /testbed and /tmp are not concerned"
    return Check("writable system folders", "note", "a deleted folder of the image cannot be made again", remedy)


def session_size() -> Check:
    """Apptainer's own writable layer, which sandboxes do not use and a user by hand may run into."""
    conf = Path(shutil.which("apptainer") or CHECKOUT / ".apptainer/bin/apptainer").resolve().parents[2]
    for path in (conf / "etc/apptainer/apptainer.conf", Path("/etc/apptainer/apptainer.conf")):
        if path.is_file():
            size = re.search(r"^sessiondir max size = (\d+)", path.read_text(), re.MULTILINE)
            return Check("session tmpfs", "ok", f"{size[1] if size else '?'} MB; sandboxes do not use it")
    return Check("session tmpfs", "ok", "no apptainer.conf found; sandboxes do not use it")


def fuse() -> Check:
    device = Path("/dev/fuse")
    if device.exists() and os.access(device, os.R_OK | os.W_OK):
        return Check("/dev/fuse", "ok", "can be opened")
    remedy = "needed to build images and where scratch has no room to unpack them: modprobe fuse; chmod 666 /dev/fuse"
    return Check("/dev/fuse", "note", "cannot be opened" if device.exists() else "none", remedy)


def cgroups() -> Check:
    own = Path("/proc/self/cgroup").read_text().splitlines()
    unified = next((line.split(":", 2)[2] for line in own if line.startswith("0::")), "/")
    folder = Path("/sys/fs/cgroup") / unified.lstrip("/")
    delegated = (folder / "cgroup.subtree_control").exists() and os.access(folder / "cgroup.procs", os.W_OK)
    found = "version 2, delegated" if delegated else "not delegated"
    return Check("cgroups", "ok", f"{found}; sandboxes are bounded by limits and a watchdog")


def memory() -> Check:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) >> 20
    per = (Limits().memory_mb + Limits().disk_mb) / 1024
    cores = len(os.sched_getaffinity(0))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{available} GB free, {cores} cores, {soft} open files"
    if available < 4:
        return Check("memory", "note", found, f"the demonstration wants 4 GB; a sandbox may use up to {per:.0f} GB")
    return Check("memory", "ok", found)


def tools() -> Check:
    try:
        return Check("vLLM", "ok", f"with {tool_python()}")
    except SwedagError as error:
        return Check("vLLM", "note", "none", str(error))


def slurm() -> Check:
    if not shutil.which("sbatch"):
        return Check("Slurm", "note", "no sbatch", "only for --profile slurm")
    state = _said("sinfo", "--noheader", "--format=%P %a")
    if state is None:
        return Check("Slurm", "note", "sinfo does not answer", "is this a login node, and the controller up?")
    found = f"partitions {', '.join(line.split()[0] for line in state.splitlines() if line)}"
    if not SITE_FILE.exists():
        return Check("Slurm", "note", found, "`swedag init-site` writes down what --profile slurm should use of it")
    return Check("Slurm", "ok", found)


def gpus() -> Check:
    listed = _said("nvidia-smi", "-L") if shutil.which("nvidia-smi") else None
    if not listed:
        return Check("GPUs", "note", "none", "only for models beyond the demonstration's")
    return Check("GPUs", "ok", f"{len(listed.splitlines())}: {listed.splitlines()[0].split('(')[0].strip()}")


def hub() -> Check:
    import httpx

    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    remedy = "only for models and data sets from the Hub: fetch them on a login node, or name local folders"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return Check("Hugging Face Hub", "note", "HF_HUB_OFFLINE=1", remedy)
    try:
        httpx.head(address, timeout=PATIENCE_SECONDS)
    except httpx.HTTPError as error:
        return Check("Hugging Face Hub", "note", f"{address}: {error}", remedy)
    return Check("Hugging Face Hub", "ok", f"{address} answers")


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _file_system(folder: Path) -> str:
    """Type of the file system that `folder` is on."""
    best, kind = "", "?"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point, found = line.split()[1:3]
        if (folder.is_relative_to(point)) and len(point) >= len(best):
            best, kind = point, found
    return kind


def _minimal_image(root: Path) -> Path:
    """A folder with just enough of this machine to start a sandbox on."""
    for name in ("proc", "sys", "dev", "tmp", "testbed", "etc", "root", "var/tmp", "run", "bin"):
        (root / name).mkdir(parents=True)
    for name in ("sbin", "usr"):
        (root / name).mkdir()
    (root / "usr/bin").symlink_to("/bin")
    for name in PROGRAMS_INSIDE:
        program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None:
            raise SwedagError(f"no program {name} on this machine")
        shutil.copy(program, root / "bin" / name)
        for library in re.findall(r"(/\S+)", run_tool(name, "ldd", program)):
            target = root / library.lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, target)
    return root
