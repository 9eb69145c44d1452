"""Attention of our own for passes in which several sequences lie one after the other in a single row (models/packed.py,
models/ragged.py): the model's weights then see all their tokens at once, and no padding; here each sequence is by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

_SHORT = 384
"""Tokens of a sequence whose attention weights are kept for the gradient; beyond, they are computed again."""


def register(name: str, attention: Callable[..., tuple[Tensor, None]]) -> None:
    """Make it known to transformers."""
    AttentionInterface.register(name, attention)


@contextmanager
def attending_by(name: str, config: Any) -> Iterator[None]:
    """The model with this config attends by what was registered under this name."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """One sequence's attention, [1, heads, tokens, width], to keys and values [1, their heads, seen, width].

    `mask` [tokens, seen] is true where a token sees; None: each sees all. In bfloat16 on a CPU, where torch's own takes
    three times as long for short sequences, and repeats keys and values for their groups, it is written out.
    """
    if mask is None and query.shape[2] == 1:  # a group's queries are then queries of one head
        grouped = query.reshape(1, keys.shape[1], -1, query.shape[3])
        return scaled_dot_product_attention(grouped, keys, values, scale=scaling).reshape(query.shape)
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and keys.shape[2] <= _SHORT and mask is not None:
        return _written_out(query, keys, values, mask, scaling)
    shared = query.shape[1] > keys.shape[1]
    return scaled_dot_product_attention(query, keys, values, mask, scale=scaling, enable_gqa=shared)


def _written_out(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float) -> Tensor:
    _, heads, tokens, width = query.shape
    grouped = query.reshape(1, keys.shape[1], -1, width)
    scores = ((grouped @ keys.mT) * scaling).view(1, heads, tokens, -1)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1).view(1, keys.shape[1], -1, keys.shape[2])
    return (weights @ values).view(1, heads, tokens, width)
