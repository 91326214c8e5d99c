"""A real Slurm on this machine for as long as a `with` block lasts: munge, MariaDB, slurmdbd, slurmctld, two slurmd.

Debian's packages are enough (envs/install-slurm.sh). Node `cpu1` has no GPU, node `gpu1` counts two (character devices
stand in for them). Partitions: `cpu` (both nodes), `gpu` (gpu1), `spare` (both; its jobs go back to the queue when one of
`urgent` wants their node). There are no cgroups, so memory limits are not enforced.

The executor's jobstep drops $SLURM_CONF, so the configuration must lie where Slurm was built to look: /etc/slurm. A
machine that has one there keeps it, and these tests are skipped.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.registry import free_port

PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "sacct", "munged", "mariadbd", "mariadb-install-db", "setpriv")
PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
SYSTEM = Path("/etc/slurm")
NODES = ("cpu1", "gpu1")
ACCOUNT = "swe"


@dataclass
class Cluster:
    """A running cluster. `folder` holds its state and logs, `processes` its daemons by name, `users` whose jobs it takes."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)

    def say(self, *words: str) -> str:
        """Standard output of a command of Slurm's; an error is an assertion with what it said."""
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PATH": PATH})
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def jobs(self, *states: str) -> dict[str, str]:
        """Rule by job id of the jobs in the queue, in these states (default: all that have not ended)."""
        wanted = ("--states", ",".join(states)) if states else ()
        lines = self.say("squeue", "--noheader", "--format=%i %k", *wanted).splitlines()
        return {job: comment.removeprefix("rule_").partition("_wildcards")[0] for job, comment in map(str.split, lines)}

    def place(self, job: str) -> str:
        """The node that a job runs on; empty while it waits."""
        return self.say("squeue", "--noheader", "--states=RUNNING", "--jobs", job, "--format=%N")

    def starts(self, job: str) -> int:
        """How often a job that runs now has been started; 0 while it waits."""
        restarts = re.findall(r"Restarts=(\d+)", self.say("scontrol", "show", "job", job))
        return int(restarts[0]) + 1 if self.place(job) else 0

    def node_state(self, node: str) -> str:
        return self.say("sinfo", "--noheader", "--Node", "--nodes", node, "--partition=cpu", "--format=%T")

    def start(self, name: str, *command: str | Path, **environment: str) -> None:
        """Start a daemon in the foreground; it dies with us, whatever becomes of us."""
        log = (self.folder / f"{name}.out").open("ab")
        words = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
        self.processes[name] = subprocess.Popen(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | {"PATH": PATH} | environment
        )
        log.close()

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_controller(self) -> None:
        self.start("slurmctld", "slurmctld", "-D")
        until(lambda: self._answers("scontrol", "ping") and "UP" in self.say("scontrol", "ping"), "slurmctld answers")

    def start_node(self, name: str) -> None:
        self.start(name, "slurmd", "-D", "-N", name)

    def add_user(self, name: str) -> None:
        self.users.append(name)
        self.say("sacctmgr", "--immediate", "add", "user", name, f"Account={ACCOUNT}")
        self.say("sacctmgr", "--immediate", "modify", "user", name, "set", f"DefaultAccount={ACCOUNT}")

    def cancel_all(self) -> None:
        for user in self.users:
            self.say("scancel", f"--user={user}")
        until(lambda: not self.jobs(), "every job has ended")

    def down(self) -> None:
        """Cancel every job, stop every daemon, in the reverse order of their start."""
        with suppress(AssertionError):
            if "slurmctld" in self.processes:
                self.cancel_all()
        for name in reversed(list(self.processes)):
            self.stop(name)

    def _answers(self, *words: str) -> bool:
        done = subprocess.run(
            ["timeout", "5", *words], capture_output=True, check=False, env=os.environ | {"PATH": PATH}
        )
        return done.returncode == 0

    def _bring_up(self) -> None:
        folder = self.folder
        ports = [free_port() for _ in range(2 + len(NODES))]
        socket_of_munge, socket_of_database = folder / "munge.sock", folder / "mysql.sock"
        for node in range(2):
            os.mknod(folder / f"gpu{node}", 0o600 | 0o020000, os.makedev(1, 3))
        (folder / "owner").write_text(str(os.getpid()))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().partition(".")[0],
                munge=socket_of_munge,
                controller_port=ports[0],
                accounting_port=ports[1],
                cpu_port=ports[2],
                gpu_port=ports[3],
            )
        )
        (folder / "gres.conf").write_text(f"NodeName=gpu1 Name=gpu Type=h100 File={folder}/gpu[0-1]\n")
        (folder / "slurmdbd.conf").write_text(DATABASE.format(folder=folder, munge=socket_of_munge, port=ports[1]))
        (folder / "slurmdbd.conf").chmod(0o600)
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            SYSTEM.mkdir(exist_ok=True)
            (SYSTEM / name).unlink(missing_ok=True)
            (SYSTEM / name).symlink_to(folder / name)

        self.start(
            "munged",
            *("munged", "-F", "--force", f"--key-file={folder}/munge.key", f"--socket={socket_of_munge}"),
            *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"),
        )
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}/mysql", "--skip-test-db",
             "--auth-root-authentication-method=socket"],
            check=True, capture_output=True, env=os.environ | {"PATH": PATH},
        )  # fmt: skip
        self.start(
            "mariadbd",
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={folder}/mysql"),
            *(f"--socket={socket_of_database}", "--skip-networking", "--innodb-buffer-pool-size=64M"),
        )
        client = ("mariadb", "--no-defaults", f"--socket={socket_of_database}", "-u", "root", "-e")
        until(lambda: self._answers(*client, "create database slurm_acct_db"), "MariaDB answers")
        until(lambda: self._answers("munge", "-S", str(socket_of_munge), "-n"), "munged answers")
        self.start("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(socket_of_database))
        until(lambda: self._answers("sacctmgr", "--noheader", "list", "cluster"), "slurmdbd answers")
        self.say("sacctmgr", "--immediate", "add", "cluster", "test")
        self.say("sacctmgr", "--immediate", "add", "account", ACCOUNT, "Description=tests")
        self.add_user("root")
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        until(lambda: all(self.node_state(node) == "idle" for node in NODES), "every node is idle")


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """The cluster, up; down again when the block ends. Skips the test where there can be none, and says why."""
    skip_if_impossible()
    cluster = Cluster(folder)
    try:
        cluster._bring_up()
        yield cluster
    finally:
        cluster.down()
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            link = SYSTEM / name
            if link.is_symlink() and link.readlink() == folder / name:
                link.unlink()


def skip_if_impossible() -> None:
    conf = SYSTEM / "slurm.conf"
    if conf.is_symlink() and _left_behind(conf.readlink().parent):
        conf.unlink()
    if conf.exists():
        pytest.skip(f"{conf} is there: this machine belongs to a Slurm, which the tests leave alone")
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: envs/install-slurm.sh, as root on Debian or Ubuntu")
    if os.getuid():
        pytest.skip("a Slurm can only be brought up by root")


def _left_behind(folder: Path) -> bool:
    """Whether a configuration is that of a test session which is gone; its daemons died with it."""
    owner = folder / "owner"
    return not folder.exists() or (owner.exists() and not Path("/proc", owner.read_text()).exists())


def until(condition, what: str, seconds: float = 60) -> None:
    """Wait until `condition()` is true; AssertionError naming `what` when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.1)


CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge},cred_expire=5
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting_port}
AccountingStoragePass={munge}
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=5
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxJobCount=20000
GresTypes=gpu
NodeName=cpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={cpu_port} CPUs=8 RealMemory=32000 State=UNKNOWN
NodeName=gpu1 Weight=10 NodeHostname={host} NodeAddr=127.0.0.1 Port={gpu_port} CPUs=8 RealMemory=32000 Gres=gpu:h100:2 State=UNKNOWN
PartitionName=cpu Nodes=cpu1,gpu1 Default=YES MaxTime=1-00:00:00 PriorityTier=10 State=UP PreemptMode=OFF
PartitionName=gpu Nodes=gpu1 MaxTime=2-00:00:00 PriorityTier=10 State=UP PreemptMode=OFF
PartitionName=spare Nodes=cpu1,gpu1 MaxTime=1-00:00:00 PriorityTier=1 State=UP PreemptMode=REQUEUE
PartitionName=urgent Nodes=cpu1,gpu1 MaxTime=1-00:00:00 PriorityTier=20 State=UP PreemptMode=OFF
"""

DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost=localhost
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""
