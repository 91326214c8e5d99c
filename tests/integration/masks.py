"""What a trainer learns from and what its packed rows see: `python masks.py JOB`, with the Python of the tool environment.

JOB is JSON: a folder for work, the conversations, short ones, and the folders of a tiny model, of its tokenizer with a
marked template, and of SmolLM2. Prints JSON: for each template, packed and not, each document's text and the pieces of
it that carry a loss; and how far the logits of packed documents are from those of the same documents alone.
"""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import trl

from swedag import packed_attention
from swedag.training import TrainingSettings, make_trainer

QWEN = Path(trl.__file__).parent / "chat_templates/qwen2_5.jinja"


def main(job: dict[str, Any]) -> dict[str, Any]:
    work = Path(job["work"])
    models = {
        "tiny": Path(job["tiny"]),
        "Qwen2.5": model(work / "qwen", job["random"], job["random"], QWEN),
        "SmolLM2": model(work / "smollm2", job["random"], job["smollm2"]),
    }
    learnt = {
        f"{name}, {'packed' if packing else 'not packed'}": documents(models[name], job["conversations"], packing, work)
        for name, packing in itertools.product(models, (False, True))
    }
    return {"learnt": learnt, "isolation": isolation(models["tiny"], job["short"], work)}


def model(folder: Path, weights: str, tokenizer: str, template: Path | None = None) -> Path:
    """Weights of one model with the tokenizer of another, perhaps with another template. Nothing is computed with it."""
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(Path(weights) / name, folder)
    for path in Path(tokenizer).glob("*token*"):
        shutil.copy(path, folder)
    shutil.copy(template or Path(tokenizer) / "chat_template.jinja", folder / "chat_template.jinja")
    return folder


def documents(model: Path, conversations: list[Any], packing: bool, work: Path) -> list[dict[str, Any]]:
    trainer = make_trainer(TrainingSettings(packing=packing, max_length=300_000), model, conversations, work)
    decode = trainer.processing_class.decode
    found = []
    for row in trainer.train_dataset:
        starts = [0, *itertools.accumulate(row.get("seq_lengths") or [len(row["input_ids"])])]
        for start, end in itertools.pairwise(starts):
            tokens = list(zip(row["input_ids"][start:end], row["labels"][start:end], strict=True))
            assert all(label in (token, -100) for token, label in tokens)
            runs = itertools.groupby(tokens, key=lambda pair: pair[1] != -100)
            pieces = [decode([token for token, _ in run]) for learnt, run in runs if learnt]
            found.append({"text": decode([token for token, _ in tokens]), "learnt": pieces})
    return found


def isolation(model: Path, conversations: list[Any], work: Path) -> dict[str, float]:
    """Largest differences of logits between documents packed and alone: as the trainer packs them, and merely joined."""
    trainer = make_trainer(TrainingSettings(packing=True, max_length=2048), model, conversations, work)
    row = trainer.train_dataset[0]
    batch = dict(trainer.data_collator([row]))
    batch.pop("labels")
    network = trainer.model.eval()
    with torch.no_grad():
        packed = network(**batch).logits[0]
        by_documents = through_documents(network, batch)
        joined = network(input_ids=batch["input_ids"]).logits[0]
        starts = [0, *itertools.accumulate(row["seq_lengths"])]
        alone = torch.cat(
            [network(input_ids=batch["input_ids"][:, start:end]).logits[0] for start, end in itertools.pairwise(starts)]
        )
    return {
        "documents": len(row["seq_lengths"]),
        "packed": float((packed - alone).abs().max()),
        "varlen": float((by_documents - alone).abs().max()),
        "joined": float((joined - alone).abs().max()),
    }


def through_documents(network: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Logits with `attention: varlen`. Its kernels are for GPUs: in their place stands what their documentation says
    that they compute, one document after the other."""

    def computed(query: Any, key: Any, value: Any, ends: Any, key_ends: Any, *longest: int, **options: Any) -> Any:
        assert options["window_size"] == (-1, 0) and list(longest) == [int(ends.diff().max())] * 2
        assert options["enable_gqa"] and torch.equal(ends, key_ends)
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                *(one[start:end].transpose(0, 1) for one in (query, key, value)),
                is_causal=True, scale=options["scale"], enable_gqa=True,
            ).transpose(0, 1)
            for start, end in itertools.pairwise(ends.tolist())
        ]  # fmt: skip
        return torch.cat(parts)

    packed_attention.register()
    network.set_attn_implementation(packed_attention.NAME)
    with patch("torch.nn.attention.varlen.varlen_attn", computed):
        logits = network(**batch).logits[0]
    network.set_attn_implementation("sdpa")
    return logits


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    print("\n" + json.dumps(main(given)))
