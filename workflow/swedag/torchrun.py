"""One command as many processes that know of each other: by torchrun on one machine, or on every node of a Slurm job.

`spread` replaces this process by them; in each it returns, and WORLD_SIZE tells how many there are.
"""

import os
import shutil
import socket
import sys
from pathlib import Path

from swedag.errors import SwedagError

# What of the environment a nested srun may see: the job, but not the shape of the step that this process runs in.
OF_THE_JOB = ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME")


def started() -> bool:
    """Whether this process is one of those that `spread`, or another launcher, has started."""
    return "WORLD_SIZE" in os.environ


def gpus_here() -> int:
    import torch

    return int(torch.cuda.device_count())


def nodes() -> int:
    """Nodes of the Slurm job that this process runs in; 1 elsewhere."""
    return int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))


def spread(processes: int, nodes: int) -> None:
    """Become `processes` processes of this very command on each of `nodes` nodes; nothing happens for one in all."""
    if nodes > 1:
        if not shutil.which("srun"):
            raise SwedagError(
                f"this job has {nodes} nodes, but there is no srun to start processes on them: inside an image, bind "
                "the site's Slurm client with apptainer-args, or take one node"
            )
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SRUN_"))}
        environment |= {name: os.environ[name] for name in OF_THE_JOB if name in os.environ}
        os.execvpe("srun", srun(processes, nodes, sys.argv[1:]), environment)
    if processes > 1:
        command = torchrun(processes, ["--standalone"], sys.argv[1:])
        os.execv(command[0], command)


def srun(processes: int, nodes: int, arguments: list[str]) -> list[str]:
    """A command for the first node of a job that starts torchrun on each; inside an image, in that image again."""
    image, job = os.environ.get("APPTAINER_CONTAINER"), os.environ["SLURM_JOB_ID"]
    inside = ["apptainer", "--silent", "exec", "--nv", "--home", str(Path.cwd()), image] if image else []
    # The job's number as a port: of two jobs that share a first node, each meets its own processes.
    meeting = f"{socket.gethostname()}:{20000 + int(job) % 12000}"
    rendezvous = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-id={job}", f"--rdzv-endpoint={meeting}"]
    return [
        *("srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"),
        *inside,
        *torchrun(processes, rendezvous, arguments),
    ]


def torchrun(processes: int, meeting: list[str], arguments: list[str]) -> list[str]:
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", *meeting]
    return [sys.executable, *launcher, "-m", "swedag", *arguments]
