"""From token ids to tensors, and from a model to the log-probabilities of replies.

A row is one prompt with one reply or more. Where it has more, the prompt is computed once: replies lie one after the
other, each attends to the prompt and to itself only, and positions continue from the prompt's end (arXiv 2410.20305).
A batch is a dictionary of tensors, B rows of T tokens with N replies of P tokens together:

    ids, positions [B, T]    used [B], tokens of each row
    segments [B, T], 0 where the row's prompt is and k in its k-th reply, or absent: plain causal attention
    predictors, targets, owner [P]    flat index of the token that predicts, the token predicted, its reply
    ends [N]    flat index of each reply's last token        lengths [N]    tokens of each reply
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from models.packed import packed_states, visible
from models.pieces import by_tokens, piece_by_piece

Tensors = dict[str, Tensor]
Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Ids of a prompt (not empty) and of its replies (none empty)."""

_CHUNK = 8  # batches' worth of examples that are sorted by length together
_LOGITS = 1 << 23  # at once: 32 MB in float32, several times while their gradient is computed


def lay_out(rows: Sequence[Row], pad: int, share: bool = True) -> Tensors:
    """Tensors of these rows; without `share` each reply gets a row with a prompt of its own. Replies keep their order."""
    if not share:
        rows = [(prompt, [reply]) for prompt, replies in rows for reply in replies]
    width = max(len(prompt) + sum(map(len, replies)) for prompt, replies in rows)
    ids = torch.full((len(rows), width), pad)
    positions = torch.zeros((len(rows), width), dtype=torch.long)
    segments = torch.full((len(rows), width), -1)
    predictors: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    ends: list[int] = []
    lengths: list[int] = []
    used: list[int] = []
    for number, (prompt, replies) in enumerate(rows):
        at, base = len(prompt), number * width
        ids[number, :at], positions[number, :at] = torch.tensor(prompt), torch.arange(at)
        segments[number, :at] = 0
        for branch, reply in enumerate(replies, start=1):
            span = slice(at, at + len(reply))
            ids[number, span], segments[number, span] = torch.tensor(reply), branch
            positions[number, span] = torch.arange(len(prompt), len(prompt) + len(reply))
            predictors += [base + len(prompt) - 1, *range(base + at, base + at + len(reply) - 1)]
            targets += reply
            owner += [len(ends)] * len(reply)
            at += len(reply)
            ends.append(base + at - 1)
            lengths.append(len(reply))
        used.append(at)
    batch = {"ids": ids, "positions": positions} | {
        name: torch.tensor(values, dtype=torch.long)
        for name, values in zip(
            ("used", "predictors", "targets", "owner", "ends", "lengths"),
            (used, predictors, targets, owner, ends, lengths),
            strict=True,
        )
    }
    if any(len(replies) > 1 for _, replies in rows):
        batch["segments"] = segments
    return batch


def lay_out_text(sequences: Sequence[Sequence[tuple[Sequence[int], bool]]], pad: int) -> Tensors:
    """Tensors of sequences of (ids, is it a target) pieces, each sequence counting as one reply."""
    width = max(sum(len(ids) for ids, _ in pieces) for pieces in sequences)
    batch_ids = torch.full((len(sequences), width), pad)
    predictors, targets, owner = [], [], []
    for number, pieces in enumerate(sequences):
        flat = [(token, target) for ids, target in pieces for token in ids]
        batch_ids[number, : len(flat)] = torch.tensor([token for token, _ in flat])
        for at, (token, target) in enumerate(flat):
            if target and at:
                predictors.append(number * width + at - 1)
                targets.append(token)
                owner.append(number)
    lengths = torch.bincount(torch.tensor(owner, dtype=torch.long), minlength=len(sequences))
    positions = torch.arange(width).expand(len(sequences), width).contiguous()
    used = [sum(len(ids) for ids, _ in pieces) for pieces in sequences]
    named = {"used": used, "predictors": predictors, "targets": targets, "owner": owner}
    tensors = {name: torch.tensor(values, dtype=torch.long) for name, values in named.items()}
    return {"ids": batch_ids, "positions": positions, "lengths": lengths} | tensors


def _branch_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, T, T] of what each token sees."""
    width = segments.shape[1]
    allowed = visible(segments) | torch.eye(width, dtype=torch.bool, device=segments.device)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def can_share(model: Any) -> bool:
    """Whether the model's attention takes a mask of ours: plain full attention; no sliding window, no recurrence."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    plain = kinds == {"full_attention"} and not getattr(config, "sliding_window", None)
    return bool(plain and config._attn_implementation in ("sdpa", "eager") and config.model_type in _SHARING)


_SHARING = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "granite", "olmo2", "smollm3"})


def hidden_states(model: Any, batch: Tensors, at: str) -> Tensor:
    """Last hidden states at the flat indices `batch[at]`, [len, width]. `model` may be wrapped by peft.

    Memory does not grow with the number of rows (see models.pieces).
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = getattr(inner, inner.base_model_prefix)
    packed = backbone.device.type == "cpu" and can_share(inner)

    def states(piece: Tensors) -> Tensor:
        if packed:
            return packed_states(backbone, piece, at)
        segments = piece.get("segments")
        mask = None if segments is None else _branch_mask(segments, backbone.dtype)
        output = backbone(input_ids=piece["ids"], position_ids=piece["positions"], attention_mask=mask, use_cache=False)
        selected: Tensor = output.last_hidden_state.flatten(0, 1).index_select(0, piece[at])
        return selected

    return piece_by_piece(backbone, batch, at, states)


def reply_logps(model: Any, batch: Tensors) -> Tensor:
    """Log-probability of each reply given its prompt, nats, [N]."""
    tokens = token_logps(model, batch)
    return torch.zeros(len(batch["lengths"]), device=tokens.device).index_add(0, batch["owner"], tokens)


def token_logps(model: Any, batch: Tensors) -> Tensor:
    """Log-probability of each of the replies' tokens, nats, [P], in float32.

    Logits are computed where a token is predicted only, so many at once, and again for their gradient where they are more.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = inner.get_output_embeddings()

    def logps(states: Tensor, targets: Tensor) -> Tensor:
        return -cross_entropy(_finish(inner.config, head(states)).float(), targets, reduction="none")

    states, targets = hidden_states(model, batch, "predictors"), batch["targets"]
    count = max(1, _LOGITS // head.weight.shape[0])
    if len(targets) <= count:
        return logps(states, targets)
    chunks = zip(states.split(count), targets.split(count), strict=True)
    return torch.cat([checkpoint(logps, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def _finish(config: Any, logits: Tensor) -> Tensor:
    """What some architectures do to their logits after the output embedding."""
    if getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / config.final_logit_softcapping) * config.final_logit_softcapping
    if getattr(config, "logit_scale", None):
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    return logits


def logits_of(model: Any, states: Tensor) -> Tensor:
    """Logits of the next token after last hidden states [P, width]: [P, vocabulary], in float32."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _finish(inner.config, inner.get_output_embeddings()(states)).float()


def plan_batches(lengths: Sequence[int], size: int, seed: int, epochs: int = 1) -> list[list[int]]:
    """Batches of `size` indices, every index once per epoch, neighbours in length together, in random order."""
    chosen = random.Random(seed)  # noqa: S311 - reproducible, not secret
    plan: list[list[int]] = []
    for _ in range(epochs):
        order = list(range(len(lengths)))
        chosen.shuffle(order)
        chunk = size * _CHUNK
        chunks = [sorted(order[i : i + chunk], key=lambda n: lengths[n]) for i in range(0, len(order), chunk)]
        batches = [part[i : i + size] for part in chunks for i in range(0, len(part), size)]
        chosen.shuffle(batches)
        plan += batches
    return plan


def plan_by_tokens(lengths: Sequence[int], tokens: int, steps: int, seed: int) -> list[list[int]]:
    """`steps` batches of neighbours in length, each of at most `tokens` padded tokens; as many epochs as it takes."""
    chosen = random.Random(seed)  # noqa: S311 - reproducible, not secret
    plan: list[list[int]] = []
    while lengths and len(plan) < steps:
        order = sorted(range(len(lengths)), key=lambda n: (lengths[n], chosen.random()))
        batches = by_tokens(order, lengths, tokens)
        chosen.shuffle(batches)
        plan += batches
    return plan[:steps]
