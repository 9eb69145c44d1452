"""One forward pass for several sequences of different lengths, each with keys and values of its own.

The tokens of all sequences lie one after the other in a single row, so that the model's weights are read once for all
of them; attention alone runs sequence by sequence, over exactly what that sequence has read. There is no padding and
no mask between sequences: one may read a piece of its prompt while others read the one token that they just chose, and
what a sequence costs does not depend on how long the others are. For plain full attention (`can_batch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.attention import attend, attending_by, register
from models.batches import can_share
from models.loading import device

BARE = "__base__"
"""The name by which peft knows the base without any adapter."""

_NAME = "trimtab_ragged"
_FIRST_ROOM = 64
_ROPES_BY_LENGTH = {"dynamic", "longrope"}  # turn every sequence of a pass by the longest one's length


class KeyValues:
    """Keys and values of what one sequence has read, at most `most` tokens; room is doubled when it is used up."""

    def __init__(self, most: int) -> None:
        self.length = 0
        """Tokens read."""
        self._most = most
        self._layers: list[Tensor] = []

    def put(self, layer: int, fresh: Tensor) -> Tensor:
        """Keys and values [2, heads, length + n, width] of `layer` with the n fresh ones after those read before."""
        end = self.length + fresh.shape[2]
        if layer == len(self._layers):
            self._layers.append(_room_for(fresh, self._room(end)))
        held = self._layers[layer]
        if held.shape[2] < end:
            grown = _room_for(fresh, self._room(end))
            grown[:, :, : self.length] = held[:, :, : self.length]
            held = self._layers[layer] = grown
        held[:, :, self.length : end] = fresh
        return held[:, :, :end]

    def copy(self) -> KeyValues:
        """The same, to go on with in another way."""
        fresh = KeyValues(self._most)
        fresh.length = self.length
        fresh._layers = [held.clone() for held in self._layers]
        return fresh

    def _room(self, needed: int) -> int:
        room = _FIRST_ROOM
        while room < needed:
            room *= 2
        return max(needed, min(room, self._most))


Read = tuple[KeyValues, Sequence[int]]
"""What a sequence has read, and the ids that it reads in this pass (at least one)."""


def forward(model: Any, reads: Sequence[Read], adapters: Sequence[str] | None = None) -> Tensor:
    """Logits after each sequence's last id, [sequences, vocabulary], float32 on the CPU. `model` may be wrapped by peft.

    `adapters` names each sequence's (BARE: none), for a peft model whose adapters are switched on; without it all
    sequences are by what the model is switched to, which is faster. Where it raises nothing has been read, and it may
    be called again.
    """
    counts = [len(ids) for _, ids in reads]
    ids = torch.tensor([[token for _, ids in reads for token in ids]], device=device())
    positions = torch.tensor([[m.length + at for m, ids in reads for at in range(len(ids))]], device=device())
    last = torch.tensor(counts, device=device()).cumsum(0) - 1
    common = {
        "past_key_values": _Pass([memory for memory, _ in reads], counts),
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device()),  # is handed on, and not used
        "use_cache": True,
    }
    with torch.inference_mode(), attending_by(_NAME, model.config):
        if adapters is None:
            found = model(input_ids=ids, position_ids=positions, logits_to_keep=last, **common).logits[0]
        else:  # peft tells rows apart, not tokens: each token is a row
            names = [name for name, count in zip(adapters, counts, strict=True) for _ in range(count)]
            output = model(input_ids=ids.T, position_ids=positions.T, adapter_names=names, **common)
            found = output.logits[last, 0]
        logits: Tensor = found.float().cpu()
    for memory, read in reads:
        memory.length += len(read)
    return logits


def can_batch(model: Any) -> bool:
    """Whether this model's sequences can share a pass: its attention is plain, its positions are each sequence's own."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    return can_share(model) and rope.get("rope_type", "default") not in _ROPES_BY_LENGTH


def bytes_per_token(model: Any) -> int:
    """Memory that the keys and values of one token take."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


class _Pass:
    """What the model takes for its cache during one pass: gives each layer every sequence's keys and values."""

    is_compileable = False

    def __init__(self, memories: Sequence[KeyValues], counts: Sequence[int]) -> None:
        self._memories, self._counts = memories, counts
        self._masks = [_causal(memory.length, count) for memory, count in zip(memories, counts, strict=True)]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """The two go to `_attention` as they are: what each sequence sees, and its mask."""
        fresh = torch.stack((_in_line(keys), _in_line(values))).split(list(self._counts), dim=2)
        seen = [memory.put(layer_idx, part) for memory, part in zip(self._memories, fresh, strict=True)]
        return seen, self._masks


def _attention(
    module: Any, query: Tensor, seen: list[Tensor], masks: list[Tensor | None], _: Any, scaling: float, **__: Any
) -> tuple[Tensor, None]:
    """Each sequence's queries [rows, heads, tokens, width] over its own keys and values: [rows, tokens, heads, width]."""
    counts = [1 if mask is None else mask.shape[0] for mask in masks]
    found = [
        attend(part, both[:1], both[1:], mask, scaling)
        for part, both, mask in zip(_in_line(query)[None].split(counts, dim=2), seen, masks, strict=True)
    ]
    rows, heads, tokens, width = query.shape
    return torch.cat(found, dim=2).transpose(1, 2).reshape(rows, tokens, heads, width), None


def _in_line(states: Tensor) -> Tensor:
    """[heads, rows * tokens, width] of [rows, heads, tokens, width]: one row of all tokens, or a row for each."""
    return states.transpose(0, 1).flatten(1, 2)


def _causal(past: int, count: int) -> Tensor | None:
    """[count, past + count]: what each of the new tokens sees; None where there is but one, which sees everything."""
    if count == 1:
        return None
    return torch.ones(count, past + count, dtype=torch.bool, device=device()).tril(past)


def _room_for(like: Tensor, tokens: int) -> Tensor:
    return like.new_empty(2, like.shape[1], tokens, like.shape[3])


register(_NAME, _attention)
