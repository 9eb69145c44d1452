"""A batch's rows as a single one, without their padding, for passes with a gradient: attention goes row by row.

On a CPU only, where every padded token costs what a real one does; on a GPU it is the number of kernels that costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.attention import attend, attending_by, register

_NAME = "trimtab_packed"

Rows = list[tuple[int, Tensor]]
"""Of each row: its tokens n, and its mask [n, n] of who sees whom."""


def visible(segments: Tensor) -> Tensor:
    """[..., T, T] of segments [..., T]: a token sees what is before it, of the prompt (segment 0) and of its own segment."""
    width = segments.shape[-1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    mine: Tensor = (segments[..., None, :] == 0) | (segments[..., None, :] == segments[..., :, None])
    return mine & causal


def packed_states(backbone: Any, batch: dict[str, Tensor], at: str) -> Tensor:
    """Last hidden states at the flat indices `batch[at]` of the padded batch, [len, width]; only real tokens are computed."""
    ids, used, segments = batch["ids"], batch["used"].tolist(), batch.get("segments")
    real = torch.arange(ids.shape[1], device=ids.device) < batch["used"][:, None]
    rows = [(n, _mask(n, None if segments is None else segments[row, :n], ids)) for row, n in enumerate(used)]
    with attending_by(_NAME, backbone.config):
        output = backbone(
            input_ids=ids[real][None],
            position_ids=batch["positions"][real][None],
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),  # is handed on, and not used
            use_cache=False,
            rows=rows,
        )
    places = real.flatten().cumsum(0) - 1
    found: Tensor = output.last_hidden_state[0].index_select(0, places[batch[at]])
    return found


def _mask(tokens: int, segments: Tensor | None, like: Tensor) -> Tensor:
    return visible(like.new_zeros(tokens) if segments is None else segments)


def _attention(
    module: Any, query: Tensor, keys: Tensor, values: Tensor, _: Any, scaling: float, rows: Rows, **__: Any
) -> tuple[Tensor, None]:
    """[1, tokens, heads, width] of queries [1, heads, tokens, width]."""
    counts: Sequence[int] = [count for count, _ in rows]
    parts = zip(*(states.split(counts, dim=2) for states in (query, keys, values)), rows, strict=True)
    return torch.cat([attend(q, k, v, mask, scaling) for q, k, v, (_, mask) in parts], dim=2).transpose(1, 2), None


register(_NAME, _attention)
