"""A batch of rows in pieces that memory has room for. What is computed of it is the same; only the order of work differs.

Of a gradient's pieces the first keep what their layers computed, as far as there is room; of the others each layer keeps
its input only and is computed once more when its gradient is due (Chen et al. 2016, arXiv 1604.06174). So a batch's loss
needs no splitting, and an optimizer step is that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from models.attention import attending_by
from models.loading import return_freed
from models.weights import layer_of

_ROOM_BYTES = 1 << 30
_ROOM_SHARE = 2  # on a GPU: this part of its memory; between the kernels of small pieces it would wait
_PIECES = 2  # smaller ones have less padding and fill the room better, but too small ones are slow


def tokens_at_once(model: Any) -> int:
    """Tokens whose activations there is room for until their gradient has been computed; the same on the same machine."""
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    # bytes that a layer under a LoRA keeps of a token: measured, in bfloat16 and in float32
    per_token = _kept_layers(model, config.num_hidden_layers) * (40 * config.hidden_size + 12 * inner)
    return max(1, room_bytes(model.device) // int(per_token))


def _kept_layers(model: Any, layers: int) -> int:
    """Of so many, those that keep what they compute: from the first on that has a LoRA, or all."""
    adapted = (layer_of(name) for name, module in model.named_modules() if isinstance(module, LoraLayer))
    return layers - min((layer for layer in adapted if layer is not None), default=0)


def split(batch: dict[str, Tensor], at: str, most: int) -> list[dict[str, Tensor]]:
    """The rows in batches of at most `most` padded tokens, or of one row, neighbours in length together.

    Each has its part of the flat indices `batch[at]`, and in `places` where there it came from.
    """
    width, used = batch["ids"].shape[1], batch["used"].tolist()
    if batch["ids"].numel() <= most:
        return [batch | {"places": torch.arange(len(batch[at]), device=batch[at].device)}]
    row, column = batch[at] // width, batch[at] % width
    pieces = []
    for group in by_tokens(sorted(range(len(used)), key=lambda n: used[n]), used, most):
        chosen, narrow = torch.tensor(group, device=row.device), max(used[n] for n in group)
        number = torch.full((len(used),), -1, device=row.device)
        number[chosen] = torch.arange(len(group), device=row.device)
        places = (number[row] >= 0).nonzero().flatten()
        kept = {name: batch[name][chosen, :narrow] for name in ("ids", "positions", "segments") if name in batch}
        pieces.append(
            kept | {"used": batch["used"][chosen], "places": places, at: number[row[places]] * narrow + column[places]}
        )
    return pieces


def by_tokens(order: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """The indices `order`, ascending in length, in groups of at most `most` padded tokens, or of one.

    >>> by_tokens([1, 0, 2], [2, 1, 5], 4)
    [[1, 0], [2]]
    """
    groups: list[list[int]] = []
    for index in order:  # ascending, so the newest is the longest of its group
        if not groups or lengths[index] * (len(groups[-1]) + 1) > most:
            groups.append([])
        groups[-1].append(index)
    return groups


def piece_by_piece(
    model: Any, batch: dict[str, Tensor], at: str, compute: Callable[[dict[str, Tensor]], Tensor]
) -> Tensor:
    """`compute(piece)`, one row for each of its part of `batch[at]`, over all pieces; in the order of `batch[at]`."""
    room = tokens_at_once(model)
    most = room if batch["ids"].numel() <= room else -(-room // _PIECES)
    pieces = split(batch, at, most)
    found: list[Tensor] = []
    tokens = 0
    for piece in pieces:
        tokens += piece["ids"].numel()
        with _recomputing(model, tokens > room and torch.is_grad_enabled()):
            found.append(compute(piece))
        if len(pieces) > 1:
            return_freed()
            if found[-1].requires_grad:
                found[-1].register_hook(lambda _: return_freed())  # before this piece's layers compute again
    if len(pieces) == 1:
        return found[0]
    return torch.cat(found).index_select(0, torch.cat([piece["places"] for piece in pieces]).argsort())


@contextmanager
def _recomputing(model: Any, on: bool) -> Iterator[None]:
    """What layers compute meanwhile they compute again for their gradient, and do not keep."""
    layers: list[Any] = (
        [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)] if on else []
    )

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), attending_by(model.config._attn_implementation, model.config)  # again as it attends now

    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    try:
        for layer in layers:
            layer._gradient_checkpointing_func = again
            layer.gradient_checkpointing = True
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = False


def room_bytes(device: torch.device) -> int:
    """Memory for activations, or for keys and values."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // _ROOM_SHARE
    return _ROOM_BYTES
