"""Which command becomes which processes."""

import sys

import pytest

from swedag import torchrun
from swedag.errors import SwedagError


def test_a_node_is_one_outside_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    assert torchrun.nodes() == 1
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    assert torchrun.nodes() == 4


def test_each_node_of_a_job_meets_at_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1234567")
    monkeypatch.delenv("APPTAINER_CONTAINER", raising=False)
    command = torchrun.srun(8, 4, ["train", "--model", "m"])
    assert command[0] == "srun" and {"--nodes=4", "--ntasks-per-node=1", "--overlap"} < {*command}
    python = command.index(sys.executable)
    assert command[python + 1 : python + 4] == ["-m", "torch.distributed.run", "--nproc-per-node=8"]
    assert {"--nnodes=4", "--rdzv-id=1234567"} < {*command[python:]}
    port = int(next(word for word in command if word.startswith("--rdzv-endpoint=")).rpartition(":")[2])
    assert 20000 <= port < 32000
    assert command[-5:] == ["-m", "swedag", "train", "--model", "m"]


def test_in_an_image_the_other_nodes_enter_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/train.sif")
    command = torchrun.srun(8, 2, ["train"])
    assert command[command.index("apptainer") : command.index(sys.executable)][-1] == "/images/train.sif"


def test_many_nodes_without_srun_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SwedagError, match="bind the site's Slurm client"):
        torchrun.spread(8, 2)
