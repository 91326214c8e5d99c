"""A lock of its owner's life: held by one at a time, taken over from the dead, left to the living."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from swedag.lease import claim, lease

HOLD = "import sys; from pathlib import Path; from swedag.lease import lease\nwith lease(Path(sys.argv[1]), dead_seconds=float(sys.argv[2])): print('held', flush=True); sys.stdin.read()"


def test_one_holds_it_at_a_time(tmp_path: Path):
    inside, most = [], []

    def work(number: int) -> None:
        with lease(tmp_path / "lock", dead_seconds=60):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4 and not (tmp_path / "lock").exists()


def test_failed_owner_lets_go(tmp_path: Path):
    with pytest.raises(KeyError), lease(tmp_path / "lock"):
        raise KeyError
    with lease(tmp_path / "lock"):
        assert (tmp_path / "lock").is_dir()


def test_lock_of_the_dead_is_taken_over(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    said: list[str] = []
    # As it is seen from another machine, which cannot know that the process is gone.
    heartbeat = tmp_path / "lock/heartbeat"
    heartbeat.write_text(f"another-node, {heartbeat.read_text().partition(', ')[2]}")
    with lease(tmp_path / "lock", said.append, dead_seconds=0.5):
        pass
    assert f"process {process.pid}" in said[0] and "no sign of life" in said[-1]
    assert list(tmp_path.iterdir()) == []


WORK = (
    "import sys; from pathlib import Path; from swedag.lease import claim\n"
    "with claim(Path(sys.argv[1]), dead_seconds=1): print('held', flush=True); sys.stdin.read()"
)


def worker(work: Path, **environment: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | environment
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    return process


def test_the_newest_claim_stops_an_earlier_one(tmp_path: Path):
    earlier = worker(tmp_path)
    with claim(tmp_path, dead_seconds=60):
        assert earlier.wait() == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_who_has_lost_a_claim_stops(tmp_path: Path):
    earlier = worker(tmp_path)
    (tmp_path / "lock/heartbeat").write_text("another-node, process 1, Slurm job 18, 00000000\n1\n")
    assert earlier.wait() == -signal.SIGTERM


def test_a_dead_process_of_this_machine_holds_nobody_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    earlier = worker(tmp_path)
    earlier.kill()
    earlier.wait()
    with claim(tmp_path, dead_seconds=1e6):
        assert "is dead: its lock is taken over" in capfd.readouterr().err


def test_a_job_that_slurm_started_anew_takes_over_from_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for owner, mine in (("17", "17"), ("17", "18")):
        (tmp_path / "lock").mkdir()
        (tmp_path / "lock/heartbeat").write_text(f"another-node, process 1, Slurm job {owner}, 00000000\n1\n")
        monkeypatch.setenv("SLURM_JOB_ID", mine)
        said: list[str] = []
        with lease(tmp_path / "lock", said.append, dead_seconds=0.5):
            assert ("is dead" in said[-1]) == (owner == mine)


def test_lock_of_the_living_is_waited_for(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdin and process.stdout.readline() == b"held\n"
    # Several times as long as a dead owner's lock is respected, counted in heartbeats that were seen.
    seen: set[str] = set()
    while len(seen) < 8:
        seen.add((tmp_path / "lock/heartbeat").read_text())
    said: list[str] = []
    threading.Timer(0.5, process.stdin.close).start()
    with lease(tmp_path / "lock", said.append, dead_seconds=20):
        assert process.wait() == 0
    assert not any("taken over" in message for message in said)


def test_lost_lock_is_not_removed_from_its_new_owner(tmp_path: Path):
    with lease(tmp_path / "lock", dead_seconds=60):
        (tmp_path / "lock/heartbeat").write_text("another owner\n1\n")
    assert (tmp_path / "lock").is_dir()
