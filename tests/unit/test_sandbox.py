"""What of the sandbox can be tested without one: bounded output, the processes of this machine, bounds per kernel."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swedag.sandbox import Limits, processes
from swedag.sandbox.launch import RESERVED_PIDS, bounds_of_processes
from swedag.sandbox.output import BoundedOutput


@given(chunks=st.lists(st.binary(max_size=40)), limit=st.integers(2, 60))
def test_bounded_output_keeps_both_ends(chunks: list[bytes], limit: int):
    output = BoundedOutput(limit)
    for chunk in chunks:
        output.add(chunk)
    whole, half = b"".join(chunks), limit // 2
    if len(whole) <= 2 * half:
        assert output.content() == whole
        assert output.dropped == 0
    else:
        assert output.content() == whole[:half] + whole[len(whole) - half :]
        assert output.dropped == len(whole) - 2 * half


def test_dropped_output_is_marked_in_the_middle():
    output = BoundedOutput(4)
    output.add(b"abcdefgh")
    assert output.text() == "ab\n[... 4 bytes left out ...]\ngh"


def test_a_character_cut_in_two_is_replaced():
    output = BoundedOutput(2)
    output.add("ää".encode())
    assert output.text() == "\ufffd\n[... 2 bytes left out ...]\n\ufffd"


@pytest.fixture
def family():
    """A Python process with a sleeping child."""
    code = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '600'], stdout=2); print(p.pid, flush=True); p.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout
    child = processes.look(int(parent.stdout.readline()))
    assert child is not None
    yield parent
    processes.send(child, signal.SIGKILL)
    parent.kill()
    parent.communicate()


def test_descendants_are_found(family: subprocess.Popen[bytes]):
    below = list(processes.descendants(os.getpid()))
    assert family.pid in below
    (child,) = processes.children(family.pid)
    assert below.index(family.pid) < below.index(child)
    assert processes.inner_pids(child)[0] == child


def test_a_process_is_looked_at(family: subprocess.Popen[bytes]):
    seen = processes.look(family.pid)
    assert seen is not None
    assert seen.threads == 1
    assert seen.private_bytes > 0
    assert 0 < seen.started <= processes.now()
    assert processes.proportional_bytes(family.pid) > 0


def test_an_ended_process_is_not_there(family: subprocess.Popen[bytes]):
    seen = processes.look(family.pid)
    assert seen is not None
    processes.send(seen, signal.SIGKILL)
    family.wait()
    processes.send(seen, signal.SIGKILL)  # silently: it is gone
    assert processes.look(family.pid) is None
    assert processes.children(family.pid) == []
    assert processes.inner_pids(family.pid) == []
    assert processes.proportional_bytes(family.pid) == 0


def test_older_processes_and_their_children_are_spared(family: subprocess.Popen[bytes]):
    seen = processes.look(family.pid)
    assert seen is not None
    mine = os.getpid()
    assert family.pid in [process.pid for process in processes.started_by(mine, seen.started, 0)]
    assert family.pid not in [process.pid for process in processes.started_by(mine, seen.started + 10_000, 0)]
    assert family.pid in [process.pid for process in processes.started_by(mine, seen.started + 10_000, family.pid)]


def test_all_are_ended_even_while_new_ones_start(family: subprocess.Popen[bytes]):
    def alive() -> list[processes.Process]:
        return [seen for pid in processes.children(family.pid) if (seen := processes.look(pid))]

    assert processes.end_all(alive, seconds=20)
    assert [pid for pid in processes.children(family.pid) if processes.look(pid)] == []


@pytest.mark.parametrize(
    ("release", "of_user", "of_namespace"),
    [("4.18.0-553.el8", "unlimited", ""), ("5.14.0-427.el9", "164", ""), ("6.18.44", "164", str(100 + RESERVED_PIDS))],
)
def test_bounds_of_processes_depend_on_the_kernel(release: str, of_user: str, of_namespace: str):
    assert bounds_of_processes(100, release) == [of_user, of_namespace]


def test_limits_refuse_what_is_no_limit():
    with pytest.raises(ValueError, match="memory_mb"):
        Limits(memory_mb=0)
    with pytest.raises(ValueError, match="memory_gb"):
        Limits.model_validate({"memory_gb": 2})
