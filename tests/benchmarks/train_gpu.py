"""Training on a GPU: tokens per second, and the share of the matrix rate that they come to (MFU).

    .venv-tools/bin/python -m tests.benchmarks.train_gpu --size 7B      # the Python that has TRL; `--size toy` on CPUs

A randomly initialised model of Qwen2.5-Coder's shape is trained by swedag's own trainer on packed conversations, once
for each variant: as the libraries have it, then with what was tuned, one thing after the other; the last loss says that
they compute the same. The matrix rate is measured in the same call, by products of large matrices. Counted are the
operations of forward and backward pass (Chowdhery et al., PaLM, appendix B): attention within documents and backwards
only, the output layer on learnt tokens only, no recomputation; with adapters no gradients of frozen weights. Out, after
each variant: results/benchmarks/train_gpu.{md,json}; a variant that does not fit says so.
"""

import gc
import itertools
import random
import statistics
import string
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from transformers.trainer_utils import SaveStrategy
from trl.trainer.utils import compute_flops_per_token

from swedag.artifacts import write_json, write_text
from swedag.chat_template import CHATML
from swedag.training import LoraSettings, TrainingSettings, make_trainer
from tests.benchmarks import machine

FOLDER = Path(__file__).parents[2] / "results/benchmarks"
GPU = torch.cuda.is_available()
# hidden size, feed-forward size, layers, heads, heads of keys and values, vocabulary, tied embeddings
SHAPES = {
    "toy": (64, 128, 2, 2, 1, 512, True),
    "0.5B": (896, 4864, 24, 14, 2, 151936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151936, True),
    "3B": (2048, 11008, 36, 16, 2, 151936, True),
    "7B": (3584, 18944, 28, 28, 4, 152064, False),
}
PLAIN = {"attention": "sdpa", "fused_layers": False}
TUNED = {"attention": "varlen", "fused_layers": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": PLAIN if GPU else {},
    "full, flex attention": PLAIN | {"attention": "flex_attention"},
    "full, varlen attention": PLAIN | {"attention": "varlen"},
    "full, varlen, fused layers": TUNED,
    "full, varlen, fused, 3/4 recomputed": TUNED | {"recompute": 0.75},
    "full, varlen, fused, 1/2 recomputed": TUNED | {"recompute": 0.5},
    "LoRA": {"lora": LoraSettings()} | (PLAIN if GPU else {}),
    "LoRA, varlen, fused layers": TUNED | {"lora": LoraSettings()},
    "LoRA, varlen, fused, 1/2 recomputed": TUNED | {"lora": LoraSettings(), "recompute": 0.5},
}
HEAD = ["variant", "tokens/s", "MFU", "s per step", "memory, GiB", "last loss"]


def main(
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}")] = "7B",
    tokens: Annotated[int, typer.Option(help="Tokens of a packed sequence")] = 32768,
    steps: Annotated[int, typer.Option(help="Optimiser steps that are timed, after two that are not")] = 5,
    batch: Annotated[int, typer.Option(help="Sequences per step")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(help="Variants to measure; all that this machine can by default")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for train_gpu.md and train_gpu.json")] = FOLDER,
) -> None:
    """Measure the variants one after the other and print the table."""
    found: dict[str, dict[str, Any]] = {}
    state = machine.describe() | {"device": torch.cuda.get_device_name() if GPU else "CPU", "torch": torch.__version__}
    rate = matrix_rate()
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model", size, tokens)
        rows = conversations(tokens, batch * (steps + 2))
        for name in track(only or [name for name in VARIANTS if GPU or "attention" not in VARIANTS[name]], "Variants"):
            chosen = TrainingSettings(
                **{"max_steps": steps + 2, "global_batch": batch, "max_length": tokens, "save_steps": 10**6},
                **VARIANTS[name],
            )
            found[name] = measured(chosen, model, rows, Path(folder) / "work", rate)
            lines = [[name, *cells(row)] for name, row in found.items()]
            head = f"{size}, {tokens} tokens x {batch}, {state['device']}, matrix rate {rate / 1e12:.1f} TFLOP/s"
            text = f"{head}\n\n{machine.table(HEAD, lines)}\n"
            write_text(output / "train_gpu.md", text)
            write_json(
                output / "train_gpu.json", {"machine": state, "size": size, "matrix_rate": rate, "variants": found}
            )
    print(text)


def cells(row: dict[str, Any]) -> list[str]:
    if "problem" in row:
        return [row["problem"], "", "", "", ""]
    speed = [f"{row['tokens_per_s']:.0f}", f"{row['mfu']:.1%}", f"{row['s_per_step']:.2f}"]
    return [*speed, f"{row['memory_gib']:.1f}", f"{row['loss']:.4f}"]


def matrix_rate() -> float:
    """Floating-point operations per second of the best of ten products of two square matrices."""
    side, kind = (8192, torch.bfloat16) if GPU else (512, torch.float32)
    left, right = (torch.randn(side, side, dtype=kind, device="cuda" if GPU else "cpu") for _ in range(2))
    seconds = []
    for _ in range(12):
        synchronize()
        start = time.perf_counter()
        left @ right
        synchronize()
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / min(seconds[2:]))


def synchronize() -> None:
    if GPU:
        torch.cuda.synchronize()


def random_model(folder: Path, size: str, tokens: int) -> Path:
    """A model folder with weights of a given shape and a tokenizer of bytes."""
    hidden, feed_forward, layers, heads, key_heads, vocabulary, tied = SHAPES[size]
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*specials, *letters])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=tokens,
        tie_word_embeddings=tied,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if GPU else "cpu"):
        Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def conversations(tokens: int, sequences: int) -> list[list[dict[str, str]]]:
    """Four to a sequence; a third of each is learnt, about as in trajectories of agents."""
    rng = random.Random(0)
    turn = tokens // 24 - 16

    def said(role: str, length: int) -> dict[str, str]:
        return {"role": role, "content": "".join(rng.choices(string.ascii_lowercase, k=length))}

    one = [("user", 2 * turn), ("assistant", turn)] * 2
    return [[said(role, length) for role, length in one] for _ in range(4 * sequences)]


class Clock(TrainerCallback):
    """When each optimiser step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        synchronize()
        self.ends.append(time.perf_counter())


def measured(chosen: TrainingSettings, model: Path, rows: list[Any], work: Path, rate: float) -> dict[str, Any]:
    """Tokens per second and what they come to, or the problem: `out of memory`."""
    clock = Clock()
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer = make_trainer(chosen, model, rows, work)
        trainer.add_callback(clock)
        trainer.args.save_strategy = SaveStrategy.NO
        trainer.train()
        sequences = trainer.train_dataset[:]
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        operations = operations_per_token(trainer.model.config, sequences, chosen.lora is not None)
    except torch.OutOfMemoryError:
        return {"problem": "out of memory"}
    finally:
        trainer = None
        gc.collect()
        if GPU:
            torch.cuda.empty_cache()
    seconds = statistics.median(later - sooner for sooner, later in itertools.pairwise(clock.ends[1:]))
    size = chosen.global_batch * statistics.mean(map(len, sequences["input_ids"]))
    return {
        "tokens_per_s": size / seconds,
        "mfu": size / seconds * operations / rate,
        "s_per_step": seconds,
        "loss": losses[-1],
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if GPU else 0.0,
    }


def operations_per_token(config: Any, sequences: dict[str, Any], adapters: bool) -> float:
    """Of forward and backward pass; `seq_lengths` are those of the documents in each sequence."""
    documents = [length for row in sequences["seq_lengths"] for length in row]
    labels = [label for row in sequences["labels"] for label in row]
    seen = sum(length**2 for length in documents) / sum(documents) / 2
    learnt = sum(label != -100 for label in labels) / len(labels)
    everything = compute_flops_per_token(config, seen) - 6 * config.vocab_size * config.hidden_size * (1 - learnt)
    return float(everything * 2 / 3 if adapters else everything)


if __name__ == "__main__":
    typer.run(main)
