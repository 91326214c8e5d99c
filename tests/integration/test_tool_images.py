"""Training inside its image: the same rule, the same weights; and stale when the image holds something else."""

import json
import re
import subprocess

import pytest
import yaml

from swedag.apptainer import find_apptainer
from swedag.artifacts import sha256_file
from tests.conftest import ROOT, Checkout, copy_sources
from tests.integration.images import put_tool_image, tool_image
from tests.integration.models import random_model

pytestmark = pytest.mark.integration
CHECKPOINT = "results/mini/checkpoints/rft-1"
RULES = ("base_model", "restore_file", "train")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A policy whose training set is restored and whose model is a folder; the image is in its place."""
    checkout = copy_sources(tmp_path_factory.mktemp("checkout"))
    rows = checkout.path / "rows.jsonl"
    said = [
        ({"role": "user", "content": f"1| if a < {n}:"}, {"role": "assistant", "content": "no edit"}) for n in range(8)
    ]
    rows.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in said))
    restored = {"source": str(rows), "sha256": sha256_file(rows)}
    values = yaml.safe_load((ROOT / "tests/data/mini.yaml").read_text())
    values["models"] = {"tiny": {"kind": "folder", "path": str(random_model())}}
    values["training"]["rft"] |= {"max_steps": 4, "global_batch": 4, "device_batch": 4, "max_length": 64}
    values["restore"] = {f"results/mini/sft/rft-1{suffix}": restored for suffix in (".jsonl", ".card.json")}
    (checkout.path / "config/tiny.yaml").write_text(yaml.safe_dump(values))
    put_tool_image(checkout, "train-cpu")
    return checkout


def snakemake(checkout: Checkout, *options: str) -> str:
    """What Snakemake says of making the checkpoint."""
    done = checkout.snakemake(CHECKPOINT, "--configfile", "config/tiny.yaml", "--allowed-rules", *RULES, *options)
    return done.stdout + done.stderr


def test_training_in_its_image_gives_the_weights_that_it_gives_outside(checkout: Checkout) -> None:
    """To the bit: the same wheels on the same machine, under another Python and another C library."""
    weights = checkout.path / CHECKPOINT / "model.safetensors"
    snakemake(checkout, "--sdm", "apptainer")
    inside = sha256_file(weights)
    weights.unlink()
    snakemake(checkout, "--forcerun", "train")
    assert sha256_file(weights) == inside


def test_a_checkpoint_is_stale_when_its_image_holds_something_else(checkout: Checkout) -> None:
    inside, planned = ("--sdm", "apptainer"), ("--dry-run", "--quiet", "rules")
    snakemake(checkout, *inside)
    image = checkout.path / "results/images/tools/train-cpu.sif"
    image.touch()
    assert not re.search(r"(?m)^ *train +1", snakemake(checkout, *inside, *planned))
    image.with_suffix(".sha256").write_text("0" * 64 + "\n")
    assert re.search(r"(?m)^ *train +1", snakemake(checkout, *inside, *planned))


def test_the_image_holds_what_trains_and_nothing_else(checkout: Checkout) -> None:
    run = [find_apptainer(), "--silent", "exec", "--containall", "--no-home", str(tool_image("train-cpu"))]
    program = "import sys, importlib.util as u; print(sys.prefix, *[n for n in ('trl', 'vllm') if u.find_spec(n)])"
    done = subprocess.run([*run, "python", "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "/opt/env trl\n"
