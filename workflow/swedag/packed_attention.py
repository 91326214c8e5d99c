"""Attention within the documents of a packed sequence, by the flash kernels that PyTorch itself has (GPUs alone).

transformers' `flash_attention_2` is the same computation but asks for the package flash-attn, which must be compiled;
its `sdpa` builds a mask of length² per sequence and computes what the mask then hides.
"""

from typing import Any

NAME = "varlen"


def register() -> None:
    """Make `attn_implementation="varlen"` known to transformers; without a mask function it builds no mask."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _forward)


def _forward(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Any = None,
    max_length_q: int | None = None,
    **others: Any,
) -> tuple[Any, None]:
    """Causal attention within documents: query (1, heads, tokens, size), key and value (1, key heads, tokens, size) and
    the documents' ends, as TRL's collator gives them, to (1, tokens, heads, size)."""
    from torch.nn.attention.varlen import varlen_attn

    if cu_seq_lens_q is None:
        raise ValueError("varlen attention is for packed sequences: the ends of their documents are missing")
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    packed = (one[0].transpose(0, 1) for one in (query, key, value))
    out = varlen_attn(
        *packed, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
        scale=scaling, window_size=window, enable_gqa=True,
    )  # fmt: skip
    return out[None], None
