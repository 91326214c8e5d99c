"""Real TRL training of a tiny model: reproducible to the bit, and across a kill."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import openai
import psutil
import pytest

from swedag.edits import NO_EDIT
from swedag.serving import Server, ServingSettings, serve
from swedag.tool_environment import PACKAGE_ROOT
from tests.conftest import ROOT

pytestmark = pytest.mark.integration
RECIPE = {
    "max_steps": 12, "learning_rate": 1e-3, "global_batch": 4, "device_batch": 4, "max_length": 256, "packing": False,
    "save_steps": 3,
}  # fmt: skip
SERVING = ServingSettings(device="cpu", max_model_len=256, kv_cache_gb=0.05, max_num_seqs=2)
BLANK = """
import sys
from pathlib import Path
from swedag.models.scratch import ArchitectureSettings, ScratchSettings, blank_model
from swedag.training import TrainingSettings
from swedag.trajectory import Message
settings = ScratchSettings(architecture=ArchitectureSettings(vocabulary=400), training=TrainingSettings())
words = [[Message(role="user", content=f"{n}| if a < b: return {n}"), Message(role="assistant", content="no edit")] for n in range(64)]
blank_model(settings, words, Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blank")
    environment = os.environ | {"PYTHONPATH": str(PACKAGE_ROOT), "OMP_NUM_THREADS": "1"}
    python = PACKAGE_ROOT.parent / ".venv-tools/bin/python"
    subprocess.run([python, "-c", BLANK, str(folder / "blank")], env=environment, check=True, capture_output=True)
    return folder / "blank"


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    replies = [NO_EDIT, "2| a => b", "1| < => <="]
    rows = [
        {"messages": [{"role": "user", "content": f"1| if a < {n}:"}, {"role": "assistant", "content": replies[n % 3]}]}
        for n in range(48)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(model: Path, data: Path, folder: Path, processes: int = 1, **recipe: object) -> list[str]:
    options = {"model": model, "data": data, "work": folder / "work", "output": folder / "out", "processes": processes}
    settings = json.dumps(RECIPE | recipe)
    return [sys.executable, "-m", "swedag", "train", "--settings", settings,
            *[word for name, path in options.items() for word in (f"--{name}", str(path))]]  # fmt: skip


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "out/model.safetensors").read_bytes()).hexdigest()


def weights(model: Path) -> dict[str, numpy.ndarray]:
    """The tensors of a model. A safetensors file is the length of its header, the header, and the numbers."""
    content = (model / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(content, "<f4", math.prod(tensor["shape"]), start + tensor["data_offsets"][0])
        for name, tensor in header.items()
    }


def apart(one: dict[str, numpy.ndarray], two: dict[str, numpy.ndarray], before: dict[str, numpy.ndarray]) -> float:
    """How far two trained models are from each other, in parts of how far the first moved."""
    distance = sum(float(((one[name] - two[name]) ** 2).sum()) for name in one)
    moved = sum(float(((one[name] - before[name]) ** 2).sum()) for name in one)
    return math.sqrt(distance / moved)


def killed_at(work: Path, step: int, command: list[str]) -> None:
    """Run a training and kill it, with all its processes, when the checkpoint of a step is whole."""
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(work.glob(f"*/checkpoint-{step}/trainer_state.json")):
        try:
            process.wait(0.01)
        except psutil.TimeoutExpired:
            continue
        pytest.fail("training ended before it could be killed")
    for each in (process, *process.children(recursive=True)):
        each.kill()
    psutil.wait_procs([process])


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "out/training.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(blank: Path, conversations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(command(blank, conversations, folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_checkpoint_tells_how_it_came_about(undisturbed: Path):
    rows = [json.loads(line) for line in (undisturbed / "out/training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "48 conversations" in (undisturbed / "out/README.md").read_text()
    assert not (undisturbed / "work").exists()


def test_the_same_seed_gives_the_same_weights(blank: Path, conversations: Path, undisturbed: Path, tmp_path: Path):
    done = subprocess.run(command(blank, conversations, tmp_path), check=True, capture_output=True, text=True)
    assert digest(tmp_path) == digest(undisturbed)
    assert re.search(r"(?m)^training: step 6 of 12, loss \d+\.\d{4}, 0:0\d:\d\d to go$", done.stderr), done.stderr


@pytest.mark.parametrize("packing", [False, True])
def test_killed_in_the_second_epoch_and_resumed_ends_in_the_same_weights(
    blank: Path, conversations: Path, tmp_path: Path, packing: bool
):
    recipe = {"max_steps": 30, "packing": packing}
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(command(blank, conversations, undisturbed, **recipe), check=True, capture_output=True)
    killed_at(tmp_path / "work", 18, command(blank, conversations, tmp_path, **recipe))
    assert not (tmp_path / "out").exists()
    done = subprocess.run(command(blank, conversations, tmp_path, **recipe), check=True, capture_output=True, text=True)
    assert digest(tmp_path) == digest(undisturbed)
    curves = [path.read_text() for path in (tmp_path / "out/training.jsonl", undisturbed / "out/training.jsonl")]
    assert curves[0] == curves[1]
    assert "Traceback" not in done.stderr


def test_two_processes_make_the_steps_of_one(
    blank: Path, conversations: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """12 steps are one epoch of 48 rows. Sums in another order differ by rounding, and Adam makes much of what is nearly
    nothing: the weights may differ by a ten-thousandth of how far they moved (a millionth here)."""
    done = subprocess.run(
        command(blank, conversations, tmp_path, processes=2, device_batch=2), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path) == pytest.approx(losses(undisturbed), rel=1e-5)
    assert apart(weights(undisturbed / "out"), weights(tmp_path / "out"), weights(blank)) < 1e-4


def test_adapters_are_merged_into_a_whole_model(blank: Path, conversations: Path, tmp_path: Path) -> None:
    recipe = {"lora": {"rank": 4, "alpha": 8}, "recompute": 0.5, "packing": True, "learning_rate": 1e-2}
    done = subprocess.run(command(blank, conversations, tmp_path, **recipe), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    before, after = weights(blank), weights(tmp_path / "out")
    assert after.keys() == before.keys()
    changed = {name.split(".")[-2] for name in after if not numpy.array_equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert not (tmp_path / "out/adapter_config.json").exists()


def test_shards_over_two_processes_killed_and_resumed_make_the_steps_of_one(
    blank: Path, conversations: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Each process keeps and saves its half of weights and optimiser; the checkpoint is whole again."""
    sharded = command(blank, conversations, tmp_path, processes=2, device_batch=2, parallel="fsdp")
    killed_at(tmp_path / "work", 6, sharded)
    halves = sorted(path.name for path in tmp_path.glob("work/*/checkpoint-6/pytorch_model_fsdp_0/*.distcp"))
    assert halves == ["__0_0.distcp", "__1_0.distcp"]
    done = subprocess.run(sharded, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 12 of 12" in done.stderr and "step 3 of 12" not in done.stderr
    assert losses(tmp_path) == pytest.approx(losses(undisturbed), rel=1e-5)
    assert apart(weights(undisturbed / "out"), weights(tmp_path / "out"), weights(blank)) < 1e-4


def test_an_adapter_that_is_kept_is_served_as_the_model_that_it_merges_into(
    blank: Path, conversations: Path, tmp_path: Path
) -> None:
    said: dict[str, list[float]] = {}
    for folder, merge in ((tmp_path / "kept", False), (tmp_path / "merged", True)):
        recipe = {"lora": {"rank": 4, "alpha": 8, "merge": merge}, "learning_rate": 1e-2}
        done = subprocess.run(command(blank, conversations, folder, **recipe), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with serve(folder / "out", SERVING, folder / "log") as server:
            names = [server.model] if merge else [server.model, f"{server.model}-base"]
            said |= {f"{folder.name} {name}": log_probabilities(server, name) for name in names}
    assert (tmp_path / "kept/out/adapter_model.safetensors").stat().st_size < 100_000
    assert said["kept out"] == pytest.approx(said["merged out"], abs=1e-4)
    assert said["kept out-base"] != pytest.approx(said["merged out"], abs=0.1)
    further = subprocess.run(command(tmp_path / "kept/out", conversations, tmp_path), capture_output=True, text=True)
    assert further.returncode == 1 and "it is an adapter" in further.stderr


def log_probabilities(server: Server, model: str) -> list[float]:
    """Of the tokens of a text, the first left out."""
    with openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        answer = client.completions.create(model=model, prompt="1| if a < b:", max_tokens=1, echo=True, logprobs=1)
    return answer.choices[0].logprobs.token_logprobs[1:-1]


def test_a_batch_that_cannot_be_split_is_an_error(blank: Path, conversations: Path, tmp_path: Path):
    done = subprocess.run(command(blank, conversations, tmp_path, global_batch=6), capture_output=True, text=True)
    assert done.returncode == 1
    assert "global_batch 6 is no multiple of device_batch 4" in done.stderr.replace("\n", " ")


def test_the_benchmark_for_gpus_runs_at_toy_size(tmp_path: Path) -> None:
    command = ["-m", "tests.benchmarks.train_gpu", "--size", "toy", "--tokens", "1024", "--steps", "2"]
    python = PACKAGE_ROOT.parent / ".venv-tools/bin/python"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE_ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([python, *command, "--output", tmp_path], cwd=ROOT, env=environment, check=True, capture_output=True)
    found = json.loads((tmp_path / "train_gpu.json").read_text())
    assert found["matrix_rate"] > 1e8
    assert set(found["variants"]) == {"full", "LoRA"}
    for row in found["variants"].values():
        assert 700 < row["tokens_per_s"] * row["s_per_step"] <= 1024  # a sequence is nearly full
        assert 0 < row["mfu"] < 1
    assert "| full |" in (tmp_path / "train_gpu.md").read_text()
