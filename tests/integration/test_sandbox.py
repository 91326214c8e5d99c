"""The sandbox as a terminal: what persists between commands, what a command returns, and how it starts and ends."""

import os
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swedag.apptainer import run_tool
from swedag.sandbox import Limits, Sandbox, SandboxError, launch, processes
from swedag.sandbox import sandbox as sandbox_module
from tests.integration.conftest import Images

pytestmark = pytest.mark.integration
NOBODY = 65534
FORKS = "import os, time; [os.fork() or time.sleep(60) for _ in range(900)]"


@pytest.fixture(scope="module")
def shared(images: Images):
    """One sandbox for tests that leave nothing behind."""
    with Sandbox(images.environment, images.layer) as opened:
        yield opened


@pytest.fixture
def sandbox(images: Images):
    with Sandbox(images.environment, images.layer, Limits(file_mb=4, disk_mb=64)) as opened:
        yield opened


def test_working_directory_is_the_repository(shared: Sandbox):
    assert shared.run("pwd; ls pyproject.toml").output == "/testbed\npyproject.toml\n"


def test_tests_of_the_package_pass_in_it(shared: Sandbox):
    result = shared.run("python -m pytest -q tests/test_parse.py", timeout=60)
    assert result.exit_code == 0, result.output
    assert "passed" in result.output


def test_state_persists_as_in_a_terminal(sandbox: Sandbox):
    sandbox.run(
        "cd tests; export A='two words'; B=(1 2 3); f() { echo f of $1; }; alias g=f; umask 077; shopt -s nullglob"
    )
    assert sandbox.run("echo $PWD $A ${B[2]}; f x; umask; echo /none/*").output == (
        "/testbed/tests two words 3\nf of x\n0077\n\n"
    )


def test_last_exit_code_and_background_job_persist(sandbox: Sandbox):
    sandbox.run("sleep 0.2 & (exit 7)")
    assert sandbox.run("echo $?").output == "7\n"
    assert sandbox.run("wait $! && echo waited").output == "waited\n"


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [("true", 0), ("false", 1), ("exit 3", 3), ("kill -TERM $BASHPID", 143), ("no-such-program", 127)],
)
def test_exit_code_is_the_command_s(shared: Sandbox, command: str, exit_code: int):
    assert shared.run(command).exit_code == exit_code


def test_output_and_errors_come_in_the_order_they_were_written(shared: Sandbox):
    assert shared.run("echo 1; echo 2 >&2; echo 3").output == "1\n2\n3\n"


def test_output_without_a_newline_and_no_output(shared: Sandbox):
    assert shared.run("printf x").output == "x"
    assert shared.run(":").output == ""


def test_standard_input_is_empty(shared: Sandbox):
    assert shared.run("cat; read x; echo $?").output == "1\n"


def test_binary_output_is_text_with_replacements(shared: Sandbox):
    assert shared.run(r"printf 'a\xff\x00\xc3\xa4b'").output == "a\ufffd\x00äb"


def test_multiline_commands_and_quotes(shared: Sandbox):
    command = "cat <<'EOF' | tr a-z A-Z\nit's \"quoted\" $HOME `x`\nEOF\nfor i in 1 2; do\n  echo $i\ndone"
    assert shared.run(command).output == 'IT\'S "QUOTED" $HOME `X`\n1\n2\n'


def test_syntax_error_is_reported_and_survived(shared: Sandbox):
    assert "unexpected EOF" in shared.run("echo $(( 1").output
    assert shared.run("echo on").output == "on\n"


def test_nul_in_a_command_is_refused(shared: Sandbox):
    with pytest.raises(ValueError, match="NUL"):
        shared.run("echo \0")


def test_long_output_loses_its_middle(images: Images):
    with Sandbox(images.environment, images.layer, Limits(output_bytes=2000)) as sandbox:
        result = sandbox.run("seq 100000")
    assert result.output.startswith("1\n2\n")
    assert result.output.endswith("99999\n100000\n")
    assert f"[... {result.dropped_bytes} bytes left out ...]" in result.output
    assert result.dropped_bytes == len("".join(f"{n}\n" for n in range(1, 100001))) - 2000


def test_time_out_kills_the_command_and_keeps_the_state_from_before(sandbox: Sandbox):
    sandbox.run("cd docs; export A=1")
    result = sandbox.run("export A=2; echo begun; (sleep 600 &); sleep 600; echo not reached", timeout=0.5)
    assert (result.timed_out, result.exit_code, result.output) == (True, None, "begun\n")
    assert sandbox.run("echo $A $PWD; pgrep sleep").output == "1 /testbed/docs\n"


def test_background_job_outlives_the_time_out_of_a_later_command(sandbox: Sandbox):
    sandbox.run("sleep 600 >/dev/null 2>&1 &")
    threading.Event().wait(2 / processes.TICKS)  # start times are counted in ticks
    assert sandbox.run("while :; do :; done", timeout=0.3).timed_out
    assert sandbox.run("pgrep -c sleep").output == "1\n"


def test_a_command_with_gigabytes_is_killed_at_its_time_limit_and_the_shell_survives(images: Images):
    """The kernel takes as long to free them as to give them: that is no process which cannot be killed."""
    with Sandbox(images.environment, images.layer, Limits(memory_mb=8000)) as sandbox:
        held = sandbox.run(
            """python3 -c "import time; x = b'x' * (3 << 30); print('held', flush=True); time.sleep(99)" """, 10
        )
        assert (held.timed_out, held.output) == (True, "held\n")
        assert sandbox.run("echo on").output == "on\n"


def test_background_job_s_output_comes_with_a_later_command(sandbox: Sandbox):
    sandbox.run("(until [ -e /tmp/go ]; do :; done; echo from behind; touch /tmp/gone) &")
    assert "from behind" in sandbox.run("touch /tmp/go; until [ -e /tmp/gone ]; do :; done").output


def test_files_are_written_and_read_whole(sandbox: Sandbox):
    data = bytes(range(256)) * 4096
    sandbox.write("/testbed/new folder/it's.bin", data)
    assert sandbox.read("new folder/it's.bin") == data
    sandbox.write("/tmp/empty", b"")
    assert sandbox.read("/tmp/empty") == b""


def test_unreadable_and_unwritable_files_are_errors(sandbox: Sandbox):
    with pytest.raises(FileNotFoundError, match="/no/such"):
        sandbox.read("/no/such")
    with pytest.raises(OSError, match="cannot be written"):
        sandbox.write("/proc/sys/x", b"data")
    with pytest.raises(OSError, match="cannot be written"):
        sandbox.write("/tmp/large", bytes(8 << 20))
    assert sandbox.run("echo on").output == "on\n"


def test_the_whole_system_is_writable(sandbox: Sandbox):
    assert sandbox.writable == "overlay"
    assert sandbox.run("rm -r /usr/share/perl5 && mkdir /usr/share/perl5 && touch /opt/env/x /etc/x").exit_code == 0


def test_a_read_only_system_leaves_the_repository_writable(images: Images):
    with Sandbox(images.environment, images.layer, read_only_system=True) as sandbox:
        assert sandbox.writable == "folders"
        assert sandbox.run("touch /testbed/x /tmp/x /dev/shm/x ~/x").exit_code == 0
        assert sandbox.run("touch /opt/env/x").exit_code == 1
        assert sandbox.run("python -m pytest -q tests/test_parse.py", timeout=60).exit_code == 0


def test_git_sees_a_clean_repository_and_its_changes(sandbox: Sandbox):
    assert sandbox.run("git status --porcelain").output == ""
    assert "+#" in sandbox.run("echo '#' >>sqlparse/lexer.py; git diff").output


def test_many_at_once_do_not_disturb_each_other(images: Images):
    before = set(processes.descendants(os.getpid()))

    def own(number: int) -> bool:
        with Sandbox(images.environment, images.layer) as sandbox:
            sandbox.run(f"echo {number} >/tmp/number; cd docs")
            return sandbox.run("cat /tmp/number; pwd").output == f"{number}\n/testbed/docs\n"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(own, range(24)))
    assert set(processes.descendants(os.getpid())) <= before


def test_without_unshare_apptainer_makes_the_namespaces(images: Images, monkeypatch: pytest.MonkeyPatch):
    """Hosts on which AppArmor lets Apptainer alone make user namespaces."""
    before = set(processes.descendants(os.getpid()))
    for module in (launch, sandbox_module):
        monkeypatch.setattr(module, "namespaces_work", lambda: False)
    with Sandbox(images.environment, images.layer) as sandbox:
        assert sandbox.run("touch /usr/x && id -u").output == "0\n"
        assert sandbox.run("sleep 600", timeout=0.3).timed_out
        assert sandbox.run("echo on").output == "on\n"
    assert set(processes.descendants(os.getpid())) <= before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_has_the_same_sandbox(images: Images, tmp_path: Path):
    for needed in (images.environment, Path(launch.find_apptainer())):
        if not all(parent.stat().st_mode & 0o001 for parent in needed.resolve().parents):
            pytest.skip(f"{needed} lies below a folder that only its owner may enter")
    layer = Path(f"/tmp/swedag-test-{os.getpid()}.sqsh")
    layer.write_bytes(images.layer.read_bytes())
    scratch = Path(f"/tmp/swedag-test-{os.getpid()}")
    scratch.mkdir()
    os.chown(scratch, NOBODY, NOBODY)

    def session() -> tuple[str, str, int | None]:
        with Sandbox(images.environment, layer, scratch=scratch) as sandbox:
            said = sandbox.run("id -u; touch /usr/x && python -m pytest -q tests/test_parse.py | tail -1", timeout=60)
            sandbox.run("sleep 600", timeout=0.2)
            forks = sandbox.run(f"python -c '{FORKS}'", timeout=20)
        return sandbox.writable, said.output, forks.exit_code

    try:
        writable, output, forks = as_user(NOBODY, session)
    finally:
        layer.unlink()
        launch.shutil.rmtree(scratch)
    assert writable == "overlay"
    assert output.startswith("0\n")
    assert "passed" in output
    assert forks != 0


def as_user(user: int, work: Callable[[], tuple[str, str, int | None]]) -> tuple[str, str, int | None]:
    """Result of `work` done by a child process that has become `user`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.write(writing, pickle.dumps(work()))
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    assert data, "the child failed; see its traceback above"
    return pickle.loads(data)


def test_missing_files_are_named(images: Images, tmp_path: Path):
    with (
        pytest.raises(SandboxError, match=r"none\.sif: no such environment image"),
        Sandbox(tmp_path / "none.sif", images.layer),
    ):
        pass
    with pytest.raises(SandboxError, match=r"none\.sqsh: no such instance layer"):
        Sandbox(images.environment, tmp_path / "none.sqsh").__enter__()


def test_files_that_are_no_images_are_told_apart(images: Images, tmp_path: Path):
    broken = tmp_path / "broken.sqsh"
    broken.write_text("no squashfs")
    with pytest.raises(SandboxError, match="did not start"):
        Sandbox(images.environment, broken).__enter__()
    with pytest.raises(Exception, match="not an Apptainer image"):
        Sandbox(broken, images.layer, scratch=tmp_path).__enter__()
    assert [path.name for path in (tmp_path / "environments").iterdir()] == [".lock"]


def test_layer_larger_than_the_disk_is_an_error_that_says_so(images: Images, tmp_path: Path):
    (tmp_path / "content/testbed").mkdir(parents=True)
    (tmp_path / "content/testbed/large").write_bytes(os.urandom(3 << 20))
    layer = tmp_path / "large.sqsh"
    run_tool("layer", "mksquashfs", tmp_path / "content", layer, "-quiet", "-no-progress")
    with pytest.raises(SandboxError, match=r"No space left|[Ww]rite"):
        Sandbox(images.environment, layer, Limits(disk_mb=1)).__enter__()


def test_an_image_is_unpacked_once_whoever_asks(images: Images, tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: launch.unpacked(images.environment, tmp_path), range(4)))
    assert len(folders) == 1
    (folder,) = folders
    before = folder.stat().st_ino
    assert launch.unpacked(images.environment, tmp_path).stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "environments").iterdir()) == [".lock", folder.name]


def test_half_unpacked_and_unused_images_are_removed(images: Images, tmp_path: Path):
    store = tmp_path / "environments"
    for name in (".unpacking-killed", "old-0123", "new-4567"):
        (store / name / "usr").mkdir(parents=True)
    os.utime(store / "old-0123", (0, 0))
    kept = launch.unpacked(images.environment, tmp_path)
    assert sorted(path.name for path in store.iterdir()) == sorted([".lock", kept.name, "new-4567"])
