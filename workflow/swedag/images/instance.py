"""The instance layer: /testbed with the repository at its base commit, one commit and no future, as squashfs.

In: a released source (the commit is made here, the same every time) or a mirror of the repository and a commit of it.
The bytes depend on these alone: times, owners, modes are fixed, and git's files carry no trace of the machine. A layer
is stacked over its environment; the two are never copied together.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swedag.apptainer import run_tool
from swedag.artifacts import replacing
from swedag.errors import SwedagError
from swedag.squashfs import pack

COMMIT = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "swedag", "EMAIL": "swedag@localhost", "DATE": "2000-01-01T00:00:00Z"}.items()
} | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "TZ": "UTC", "LC_ALL": "C"}
GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "gc.auto=0")
# Left as they are by git, objects are compressed by squashfs, better and together.
PACK = ("-c", "pack.threads=1", "-c", "pack.compression=0", "repack", "-a", "-d", "-F", "-q")


class UnbuildableError(SwedagError):
    """An instance's own fault: its layer cannot be made, on any machine."""


def build_layer(source: Path, bug_patch: str, output: Path, commit: str = "", written: Path | None = None) -> None:
    """Squash an sdist, changed by `bug_patch` (a git diff, may be empty), or a mirror's `commit`, into `output`.

    Files of the tar `written` are added, unless the repository has them, and hidden from git.
    """
    what = f"layer {output.stem}"
    with tempfile.TemporaryDirectory(prefix="swedag-layer-") as folder:
        testbed = Path(folder) / "layer/testbed"
        if commit:
            check_out(what, source, commit, testbed)
        else:
            unpack_sdist(source, Path(folder) / "sdist", testbed)
            _apply(what, bug_patch, Path(folder) / "bug.diff", testbed)
            _commit(what, testbed)
        _forget_the_machine(what, testbed)
        if written:
            _add(what, written, testbed)
        _set_modes(testbed)
        with replacing(output) as temporary:
            pack(what, testbed.parent, temporary, 9, ("-processors", "1", "-b", "1M"))


def layer_file(layer: Path, path: str) -> str:
    """Text of /testbed/`path`, read straight from the layer; no container is started."""
    return run_tool(f"{layer}: {path}", "unsquashfs", "-cat", layer, f"testbed/{path}")


def _apply(what: str, bug_patch: str, patch: Path, testbed: Path) -> None:
    """Outside a repository `git apply` is a plain patch that knows git's diffs."""
    if bug_patch:
        patch.write_text(bug_patch)
        nowhere = COMMIT | {"GIT_CEILING_DIRECTORIES": str(testbed.parent)}
        with _unbuildable():
            run_tool(f"{what}: its bug", *GIT, "apply", "--whitespace=nowarn", patch, cwd=testbed, env=nowhere)


@contextmanager
def _unbuildable() -> Iterator[None]:
    try:
        yield
    except SwedagError as error:
        raise UnbuildableError(str(error)) from error


def _commit(what: str, testbed: Path) -> None:
    run_tool(what, *GIT, "init", "-q", "--template=", "-b", "main", cwd=testbed, env=COMMIT)
    run_tool(what, *GIT, "add", "--all", "--force", ".", cwd=testbed, env=COMMIT)
    run_tool(what, *GIT, "commit", "-q", "--no-verify", "-m", "base", cwd=testbed, env=COMMIT)
    (testbed / ".git/COMMIT_EDITMSG").unlink()


def check_out(what: str, mirror: Path, commit: str, testbed: Path) -> None:
    """One commit of a mirror under its own name, without its past, its tags and where it came from."""
    testbed.mkdir(parents=True)
    run_tool(what, *GIT, "init", "-q", "--template=", "-b", "main", cwd=testbed, env=COMMIT)
    git = (*GIT, "-c", "safe.directory=*")
    with _unbuildable():
        run_tool(
            f"{what}: {mirror} has no commit {commit}; delete the mirror to have it fetched again",
            *(*git, "-C", mirror, "cat-file", "-e", f"{commit}^{{commit}}"),
            env=COMMIT,
        )
    run_tool(what, *git, "fetch", "-q", "--no-tags", "--depth=1", mirror.resolve(), commit, cwd=testbed, env=COMMIT)
    run_tool(what, *GIT, "reset", "-q", "--hard", "FETCH_HEAD", cwd=testbed, env=COMMIT)
    (testbed / ".git/FETCH_HEAD").unlink()
    (testbed / ".git/ORIG_HEAD").unlink(missing_ok=True)


def _forget_the_machine(what: str, testbed: Path) -> None:
    """One pack, and a fresh index: it holds no inode numbers and times, which git fills in when it first looks."""
    run_tool(what, *GIT, *PACK, cwd=testbed, env=COMMIT)
    (testbed / ".git/index").unlink()
    run_tool(what, *GIT, "read-tree", "HEAD", cwd=testbed, env=COMMIT)
    shutil.rmtree(testbed / ".git/logs")


def _add(what: str, written: Path, testbed: Path) -> None:
    run_tool(what, "tar", "-x", "--skip-old-files", "--no-same-owner", "-f", written, "-C", testbed)
    files = [name for name in run_tool(what, "tar", "-t", "-f", written).splitlines() if not name.endswith("/")]
    exclude = testbed / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("".join(f"{name.removeprefix('.')}\n" for name in files))


def unpack_sdist(source: Path, scratch: Path, testbed: Path) -> None:
    """The one folder of an sdist as `testbed`; `scratch` must not exist."""
    scratch.mkdir()
    # The tar program: Python's own learnt to refuse paths that lead out of the folder in 3.11.4, Debian 12 has 3.11.2.
    unreadable = f"{source}: not a readable sdist; delete it to have it fetched again"
    run_tool(unreadable, "tar", "-x", "-z", "-f", source, "-C", scratch, "--no-same-owner")
    inside = list(scratch.iterdir())
    if len(inside) != 1 or not inside[0].is_dir():
        raise SwedagError(f"{source}: not an sdist: it holds {[path.name for path in inside]} and not one folder")
    testbed.parent.mkdir(parents=True, exist_ok=True)
    inside[0].rename(testbed)


def _set_modes(folder: Path) -> None:
    """Give everything the two modes that git knows, whatever the umask here and the modes in the archive."""
    for path in [folder, folder.parent, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
