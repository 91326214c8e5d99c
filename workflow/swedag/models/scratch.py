"""A small model trained from scratch: Qwen2's architecture, its own tokenizer, a corpus of repairs. For demonstrations.

It learns in about a minute of one CPU core what a pretrained model brings along, so that everything after it can be
shown on a laptop with real parts. The tokenizer, the corpus and the initial weights follow from the settings, the
Python version and the library versions alone.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swedag.artifacts import write_jsonl
from swedag.chat_template import CHATML
from swedag.judgement import NO, YES
from swedag.models.corpus import CorpusSettings, corpus
from swedag.training import TrainingSettings, train
from swedag.trajectory import Message

SPECIAL = {"pad": "<|endoftext|>", "start": "<|im_start|>", "end": "<|im_end|>"}
# Names and operators with the space before them, line numbers (`3|`), single digits, indentation, single marks.
_PIECES = r" ?[A-Za-z_]+|\d+\||\d| ?(?:==|!=|<=|>=|\*\*|//|->|\+=|-=|=>)|\n| +(?= )| ?[^\sA-Za-z0-9_]|\s+"


class ArchitectureSettings(BaseModel):
    """Size of a Qwen2 model. The width of a head, hidden_size / heads, should be 32 or more for vLLM."""

    model_config = ConfigDict(extra="forbid")

    vocabulary: int = Field(1024, ge=300, description="Tokens of the tokenizer")
    hidden_size: int = Field(96, ge=32, description="Width")
    intermediate_size: int = Field(128, ge=1, description="Width of the feed-forward layers")
    layers: int = Field(3, ge=1, description="Depth")
    heads: int = Field(3, ge=1, description="Attention heads")
    context: int = Field(2048, ge=64, description="Longest sequence, in tokens")
    rope_theta: float = Field(1000.0, gt=0, description="Base of the rotary positions; small for short texts")
    initial_spread: float = Field(0.08, gt=0, description="Standard deviation of the initial weights")

    @model_validator(mode="after")
    def _even(self) -> "ArchitectureSettings":
        if self.hidden_size % self.heads or self.hidden_size // self.heads % 2:
            raise ValueError("hidden_size must be an even multiple of heads")
        return self


class ScratchSettings(BaseModel):
    """A small model trained from scratch on bugs in installed code."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["scratch"] = Field("scratch", description="Trained from scratch")
    corpus: CorpusSettings = Field(default_factory=CorpusSettings, description="What it reads")
    architecture: ArchitectureSettings = Field(default_factory=ArchitectureSettings, description="Its size")
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(
            epochs=1, learning_rate=2e-3, warmup_steps=50, device_batch=8, max_length=512, packing=False, save_steps=200
        ),
        description="How it is trained",
    )
    seed: int = Field(0, ge=0, description="Seed of the initial weights")


def make(settings: ScratchSettings, work: Path, output: Path) -> None:
    """Write the trained model to `output`. A killed run continues from its last checkpoint in `work`."""
    rows = corpus(settings.corpus)
    data, blank = work / "corpus.jsonl", work / "blank"
    write_jsonl(data, [{"messages": [message.model_dump() for message in row]} for row in rows])
    blank_model(settings, rows, blank)
    train(settings.training, blank, data, work / "training", output)


def blank_model(settings: ScratchSettings, rows: list[list[Message]], output: Path) -> None:
    """A folder with the tokenizer learnt from `rows` and random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    size = settings.architecture
    tokenizer = learn_tokenizer(rows, size.vocabulary)
    torch.manual_seed(settings.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context,
        rope_theta=size.rope_theta,
        initializer_range=size.initial_spread,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(output)
    tokenizer.save_pretrained(output)


def learn_tokenizer(rows: list[list[Message]], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer with the chat template; YES and NO are tokens, which a verifier needs."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (f"{message.role}\n{message.content}" for row in rows for message in row)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in (YES, NO)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL["end"], pad_token=SPECIAL["pad"])
    fast.chat_template = CHATML
    return fast
