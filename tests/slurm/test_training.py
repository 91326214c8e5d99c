"""One training over the nodes of a job."""

import json
import math
import shlex
import sys
from pathlib import Path

import pytest

from swedag.tool_environment import PACKAGE_ROOT
from tests.integration.models import random_model
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.integration
RECIPE = {"max_steps": 2, "global_batch": 4, "max_length": 64, "packing": False, "parallel": "fsdp"}


def test_a_job_of_two_nodes_trains_one_model_on_both(cluster: Cluster, tmp_path: Path) -> None:
    """As the executor starts it: one task on the first node, which starts a process on each."""
    rows, output, log = tmp_path / "rows.jsonl", tmp_path / "out", tmp_path / "log"
    said = [{"role": "user", "content": "1| if a < 1:"}, {"role": "assistant", "content": "no edit"}]
    rows.write_text((json.dumps({"messages": said}) + "\n") * 8)
    options = {"settings": json.dumps(RECIPE), "model": random_model(), "data": rows, "work": tmp_path / "work"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    train = [sys.executable, "-m", "swedag", "train", *words, "--output", str(output)]
    start = f"PYTHONPATH={PACKAGE_ROOT} OMP_NUM_THREADS=1 srun -n1 --nodes=1 --cpu-bind=q {shlex.join(train)}"
    allocation = ["--partition=cpu", "--nodes=2", "--ntasks=2", "--mem=2000", f"--output={log}"]
    job = cluster.say("sbatch", "--parsable", "--wait", *allocation, "--wrap", start)
    assert [math.isfinite(json.loads(line)["loss"]) for line in (output / "training.jsonl").open()] == [True, True]
    assert (output / "model.safetensors").is_file(), log.read_text()
    steps = cluster.say("sacct", "--noheader", "--parsable2", "--jobs", job, "--format=JobID,NNodes,NTasks").split()
    assert f"{job}.1|2|2" in steps, steps
