"""Training: a model and conversations in, a checkpoint out, by TRL's SFTTrainer with the loss on assistant turns.

The checkpoint loads with `from_pretrained` and in vLLM; beside the weights it holds `training.jsonl` (loss by step) and
`README.md` (a model card). A killed run continues from its last whole checkpoint in the work folder and ends in the
same weights. The paper's recipe (section B.2): AdamW, learning rate 1e-4, weight decay 0.01, cosine schedule with 5
warm-up steps, 5 epochs, global batch 8, sequences packed to 32,768 tokens.

The sequences of each optimiser step do not depend on the number of processes, but at the end of an epoch that does not
fill the last step: there, processes that would be idle repeat sequences.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from swedag import packed_attention, torchrun
from swedag.artifacts import replacing_directory, sha256, sha256_file, write_json
from swedag.chat_template import marked
from swedag.errors import SwedagError
from swedag.lease import claim
from swedag.tool_environment import enter

if TYPE_CHECKING:
    from trl import SFTTrainer


class LoraSettings(BaseModel):
    """Train low-rank adapters on all linear modules instead of all weights."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(64, ge=1, description="Rank of the adapters")
    alpha: int = Field(64, ge=1, description="Scale of the adapters")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters")
    merge: bool = Field(
        True,
        description="Add the adapters to the weights; else the checkpoint is an adapter, which vLLM serves on its base",
    )


class TrainingSettings(BaseModel):
    """A recipe of supervised fine-tuning."""

    model_config = ConfigDict(extra="forbid")

    epochs: float = Field(5, gt=0, description="Passes over the training set")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimiser steps; null for all epochs")
    learning_rate: float = Field(1e-4, gt=0, description="Highest learning rate")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW")
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field("cosine", description="After the warm-up")
    warmup_steps: int = Field(5, ge=0, description="Steps in which the learning rate rises from 0")
    global_batch: int = Field(8, ge=1, description="Sequences per optimiser step, over all processes")
    device_batch: int = Field(1, ge=1, description="Sequences that one process holds at a time")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="What each of several processes holds: the whole model, or its share of weights, gradients and "
        "optimiser (FSDP, full shard)",
    )
    max_length: int = Field(32768, ge=8, description="Tokens of a sequence; what is longer is cut at its end")
    packing: bool = Field(True, description="Put several conversations into one sequence, which do not see each other")
    lora: LoraSettings | None = Field(None, description="Train adapters; null for all weights")
    recompute: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the layers whose activations are computed again in the backward pass and not kept; null: "
        "all on GPUs, none on CPUs",
    )
    attention: Literal["varlen", "sdpa", "flex_attention", "flash_attention_2", "eager"] | None = Field(
        None,
        description="varlen: PyTorch's flash kernels within each document of a packed sequence, on GPUs; others: "
        "transformers'. null: transformers' default, which builds a mask of length² for each packed sequence",
    )
    fused_layers: bool = Field(
        False, description="Norms, rotary embeddings and activations by Liger's kernels, on GPUs"
    )
    seed: int = Field(42, ge=0, description="Seed of the order of rows and of dropout")
    save_steps: int = Field(100, ge=1, description="Steps between the checkpoints that a killed run continues from")
    threads: int = Field(1, ge=1, description="Compute threads of a process on CPUs")


def main(
    settings: Annotated[str, typer.Option(help="TrainingSettings as JSON")],
    model: Annotated[Path, typer.Option(help="Folder of the model to start from")],
    data: Annotated[Path, typer.Option(help="Conversations (.jsonl), one {messages: [...]} per line")],
    work: Annotated[Path, typer.Option(help="Folder for checkpoints, kept between attempts")],
    output: Annotated[Path, typer.Option(help="Folder of the trained model")],
    processes: Annotated[int, typer.Option(min=0, help="Processes on each node; 0: one for each GPU, or one")] = 0,
) -> None:
    """Fine-tune a model on conversations with TRL, resuming a killed run where it stood."""
    enter("trl", "SWEDAG_TRAIN_PYTHON")
    chosen = TrainingSettings.model_validate_json(settings)
    if not (model / "config.json").is_file():
        adapter = (model / "adapter_config.json").is_file()
        why = "it is an adapter; set lora.merge in its recipe" if adapter else "config.json is missing"
        raise SwedagError(f"{model}: no model to train further: {why}")
    if not data.is_file() or not data.stat().st_size:
        raise SwedagError(f"{data}: no conversations to train on")
    if not torchrun.started():
        here, nodes = processes or max(1, torchrun.gpus_here()), torchrun.nodes()
        accumulation(chosen, here * nodes)
        torchrun.spread(here, nodes)
    start = sha256(" ".join(sha256_file(path) for path in sorted(model.glob("*.safetensors"))))
    key = sha256(json.dumps([settings, start, sha256_file(data)]))[:16]
    first = os.environ.get("RANK", "0") == "0"
    with claim(work) if first else nullcontext():
        if train(chosen, model, data, work / key, output):
            shutil.rmtree(work, ignore_errors=True)


def accumulation(chosen: TrainingSettings, processes: int) -> int:
    """Forward passes of each process per optimiser step, so that the global batch is the same for any of them."""
    passes, rest = divmod(chosen.global_batch, chosen.device_batch * processes)
    if rest or not passes:
        raise SwedagError(
            f"global_batch {chosen.global_batch} is no multiple of device_batch {chosen.device_batch} "
            f"x {processes} processes"
        )
    return passes


def train(chosen: TrainingSettings, model: Path, data: Path, work: Path, output: Path) -> bool:
    """Fine-tune `model` on `data`; the work folder must belong to exactly these inputs. True in the process that wrote
    the output."""
    conversations = [json.loads(line)["messages"] for line in data.read_text().splitlines()]
    trainer = make_trainer(chosen, model, conversations, work)
    trainer.train(resume_from_checkpoint=last_checkpoint(work))
    trained = _whole_model(trainer, chosen, model)
    if not trainer.is_world_process_zero():
        return False
    from transformers import AutoTokenizer

    losses = [row for row in trainer.state.log_history if "loss" in row]
    tokenizer = trainer.processing_class
    tokenizer.chat_template = AutoTokenizer.from_pretrained(model).chat_template
    write_checkpoint(trained, tokenizer, chosen, model, output, losses, _card(chosen, model, conversations, losses))
    return True


def _whole_model(trainer: "SFTTrainer", chosen: TrainingSettings, start: Path) -> Any:
    """The trained model in one piece, in the main process; sharded ones are gathered, for which all must call."""
    if not trainer.is_fsdp_enabled:
        return trainer.model
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(trainer.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not trainer.is_world_process_zero():
        return None
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(start, dtype=_precision())
    if chosen.lora:
        whole = get_peft_model(whole, _lora(chosen.lora))
    whole.load_state_dict(weights)
    return whole


def _precision() -> str:
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def make_trainer(
    chosen: TrainingSettings, model: Path, conversations: list[list[dict[str, str]]], work: Path
) -> "SFTTrainer":
    """TRL's trainer with the recipe, its rows tokenised, masked and packed; nothing is trained yet."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch
    import trl.trainer.utils
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from swedag.training_progress import ShowProgress

    gpu = torch.cuda.is_available()
    _check_kernels(chosen, gpu)
    recompute = float(gpu) if chosen.recompute is None else chosen.recompute
    sharding = _sharding(chosen, processes)
    if not gpu:
        torch.set_num_threads(chosen.threads)
        # TRL scores the learnt positions alone where it has Triton, and all elsewhere; the former is far less work.
        trl.trainer.utils._use_triton = lambda device: True
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = marked(tokenizer, conversations)
    trainer = SFTTrainer(
        model=str(model.resolve()),
        args=SFTConfig(
            output_dir=str(work),
            per_device_train_batch_size=chosen.device_batch,
            gradient_accumulation_steps=accumulation(chosen, processes),
            num_train_epochs=chosen.epochs,
            max_steps=chosen.max_steps or -1,
            learning_rate=chosen.learning_rate,
            weight_decay=chosen.weight_decay,
            lr_scheduler_type=chosen.schedule,
            warmup_steps=chosen.warmup_steps,
            max_length=chosen.max_length,
            packing=chosen.packing,
            assistant_only_loss=True,
            model_init_kwargs={
                "dtype": _precision(),
                **({"attn_implementation": chosen.attention} if chosen.attention else {}),
            },
            bf16=gpu and not sharding,  # accelerate would make sharded weights float32, of twice the size
            use_cpu=not gpu,
            **sharding,
            gradient_checkpointing=recompute > 0,
            use_liger_kernel=chosen.fused_layers,
            seed=chosen.seed,
            save_steps=chosen.save_steps,
            save_total_limit=2,
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            dataloader_pin_memory=gpu,
        ),
        train_dataset=Dataset.from_list([{"messages": row} for row in conversations]),
        processing_class=tokenizer,
        peft_config=_lora(chosen.lora),
    )
    if trainer.args.fsdp and not gpu:
        _shard_on_cpus(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ShowProgress)
    if 0 < recompute < 1:
        trainer.add_callback(_keep_activations(recompute))
    if not chosen.packing:
        lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
        order = ByLength(lengths, chosen.global_batch, chosen.seed, lambda: int((trainer.state.epoch or 0) + 1e-6))
        trainer._get_train_sampler = lambda dataset=None: order
    return trainer


def _sharding(chosen: TrainingSettings, processes: int) -> dict[str, Any]:
    """Arguments for a model in as many parts as there are processes, layer by layer; each saves its own part."""
    if chosen.parallel == "ddp" or processes == 1:
        return {}
    # The first process alone reads the weights; transformers looks here before there is a trainer.
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    plan = {"version": 2, "state_dict_type": "SHARDED_STATE_DICT", "cpu_ram_efficient_loading": True}
    return {"fsdp": True, "fsdp_config": plan}


def _shard_on_cpus(trainer: "SFTTrainer") -> None:
    """accelerate shards where there are GPUs alone; told so afterwards, it does the same on CPUs, over gloo."""
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
    state.distributed_type = DistributedType.FSDP
    trainer.is_fsdp_enabled = True


def _check_kernels(chosen: TrainingSettings, gpu: bool) -> None:
    if chosen.attention == "flex_attention" and not gpu:
        raise SwedagError("attention: PyTorch trains with flex_attention on GPUs alone; set it to null")
    if chosen.attention == packed_attention.NAME:
        if not (gpu and chosen.packing):
            raise SwedagError("attention: varlen is for packed sequences on GPUs; set it to null")
        packed_attention.register()
    if chosen.fused_layers and not gpu:
        raise SwedagError("fused_layers: Liger's kernels run on GPUs alone; set it to false")


def _keep_activations(recompute: float) -> Any:
    """A callback that turns recomputation off again in the last layers, so that this share of all is recomputed."""
    from transformers import TrainerCallback
    from transformers.modeling_layers import GradientCheckpointingLayer

    def on_train_begin(self: Any, *unused: Any, model: Any, **others: Any) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
        for layer in layers[round(recompute * len(layers)) :]:
            layer.gradient_checkpointing = False

    return type("KeepActivations", (TrainerCallback,), {"on_train_begin": on_train_begin})


class ByLength:
    """Rows of like length stand together, in an order that the seed and the epoch alone decide.

    The trainer's own sampler of this kind draws from the global random state, so that its order depends on the number
    of processes, and in later epochs on whether the run was resumed.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        import torch
        from transformers.trainer_pt_utils import get_length_grouped_indices

        generator = torch.Generator().manual_seed(self._seed + self._epoch())
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=generator))


def last_checkpoint(work: Path) -> str | None:
    """The newest checkpoint that is whole: the trainer writes its state last, so one without it was being written."""
    whole = []
    for folder in work.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        whole.append(folder)
    return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None


def write_checkpoint(
    model: Any,
    tokenizer: Any,
    chosen: TrainingSettings,
    start: Path,
    output: Path,
    losses: list[dict[str, Any]],
    card: str,
) -> None:
    """Save a trained model with its loss curve and its card: whole with weights in one file, or as an adapter."""
    if chosen.lora and chosen.lora.merge:
        model = model.merge_and_unload()
    with replacing_directory(output) as folder:
        model.save_pretrained(folder, max_shard_size="1TB")
        if chosen.lora and not chosen.lora.merge:
            adapter = json.loads((folder / "adapter_config.json").read_text())
            write_json(folder / "adapter_config.json", adapter | {"base_model_name_or_path": str(start)})
        tokenizer.save_pretrained(folder)
        rows = [
            {key: row[key] for key in ("step", "epoch", "loss", "learning_rate", "grad_norm") if key in row}
            for row in losses
        ]
        (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "README.md").write_text(card)


def _lora(chosen: LoraSettings | None) -> Any:
    if chosen is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=chosen.rank,
        lora_alpha=chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _card(chosen: TrainingSettings, model: Path, rows: list[list[dict[str, str]]], losses: list[dict[str, Any]]) -> str:
    last = f"{losses[-1]['loss']:.4f} at step {losses[-1]['step']}" if losses else "not recorded"
    recipe = "\n".join(f"- {key}: {value}" for key, value in chosen.model_dump().items())
    return (
        f"---\nlibrary_name: transformers\nbase_model: {model.name}\n---\n\n"
        f"Fine-tuned by TRL from `{model.name}` on {len(rows)} conversations, loss on assistant turns.\n"
        f"Last training loss: {last}.\n\n{recipe}\n"
    )
