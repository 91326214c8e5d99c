"""How long this Slurm job may still run, so that work which would be cut short is not begun."""

import os
import subprocess
import time
from datetime import datetime

PATIENCE_SECONDS = 30


def seconds_left() -> float | None:
    """Seconds until Slurm ends the job that this process belongs to; None outside of Slurm, or without a limit."""
    told = os.environ.get("SLURM_JOB_END_TIME")  # since Slurm 23.02
    if told:
        return float(told) - time.time()
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    try:
        said = subprocess.run(
            ["squeue", "--noheader", "--jobs", job, "--format=%e"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        ).stdout.strip()
        return datetime.fromisoformat(said).timestamp() - time.time()
    except (OSError, subprocess.TimeoutExpired, ValueError):  # no squeue on this node, no answer, or no limit
        return None
