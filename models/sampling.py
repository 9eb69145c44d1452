"""Samples replies from a model, a batch of prompts at a time; the same seed gives the same replies on one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor
from transformers import GenerationConfig

from feedback.dataset.tables import ServedTurn
from models.chat import Chat
from models.loading import device, pad_id
from models.pieces import room_bytes
from models.ragged import KeyValues, bytes_per_token, can_batch, forward

TEMPERATURE = 0.8
PROMPTS_AT_ONCE = 32


class Sampled(Struct, frozen=True):
    """One sampled reply, and whether the model ended it: else it was cut at its limit, and is a beginning only."""

    text: str
    ended: bool


def choose_prompts(turns: Sequence[ServedTurn], split: str, count: int) -> list[ServedTurn]:
    """At most `count` turns of `split`, no prompt twice: the lowest by a hash of the turn's id, so any order will do."""
    ordered = sorted(turns, key=lambda turn: hashlib.sha256(turn.turn_id.encode()).digest())
    chosen: dict[str, ServedTurn] = {}
    for turn in ordered:
        if turn.split == split and turn.prompt and len(chosen) < count:
            chosen.setdefault(repr(turn.prompt), turn)
    return list(chosen.values())


@torch.no_grad()
def sample(
    model: Any,
    chat: Chat,
    prompts: Sequence[Sequence[int]],
    count: int,
    max_tokens: int,
    seed: int,
    temperature: float = TEMPERATURE,
) -> list[Sampled]:
    """`count` replies to each of the prompts' ids, prompt by prompt; at temperature 0 the likeliest tokens.

    So many prompts at once as there is room for their keys and values.
    """
    model.eval()
    tokens = room_bytes(model.device) // 2 // bytes_per_token(model)  # the other half: what layers compute meanwhile
    most = max(1, tokens // (count * (max(map(len, prompts)) + max_tokens)))
    parts = [prompts[i : i + most] for i in range(0, len(prompts), most)]
    # of a CPU each padded token takes its part, of a GPU each kernel
    write = _unpadded if model.device.type == "cpu" and can_batch(model) else _padded
    chance = torch.Generator(model.device).manual_seed(seed)
    written = [ids for part in parts for ids in write(model, chat, part, count, max_tokens, temperature, chance)]
    return [_reply(chat, ids) for ids in written]


def _unpadded(
    model: Any,
    chat: Chat,
    prompts: Sequence[Sequence[int]],
    count: int,
    max_tokens: int,
    temperature: float,
    chance: torch.Generator,
) -> list[list[int]]:
    """The replies' ids. Each prompt is read once, and a reply that has ended costs no more."""
    read = [KeyValues(len(prompt) + max_tokens) for prompt in prompts]
    logits = forward(model, list(zip(read, prompts, strict=True))).repeat_interleave(count, 0)
    memories = [memory.copy() for memory in read for _ in range(count)]
    written: list[list[int]] = [[] for _ in memories]
    going = list(range(len(memories)))
    for _ in range(max_tokens):
        for reply, token in zip(going, _choose(logits, temperature, chance), strict=True):
            written[reply].append(token)
        going = [reply for reply in going if written[reply][-1] not in chat.end_ids]
        if not going or len(written[going[0]]) == max_tokens:
            break
        logits = forward(model, [(memories[reply], written[reply][-1:]) for reply in going])
    return written


def _choose(logits: Tensor, temperature: float, chance: torch.Generator) -> list[int]:
    """A token for each row of logits [rows, vocabulary]."""
    if not temperature:
        return [int(token) for token in logits.argmax(-1)]
    drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=chance)
    return [int(token) for token in drawn[:, 0]]


def _padded(
    model: Any,
    chat: Chat,
    prompts: Sequence[Sequence[int]],
    count: int,
    max_tokens: int,
    temperature: float,
    chance: torch.Generator,
) -> list[list[int]]:
    """The replies' ids, by transformers: for any attention there is."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id(chat)] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        num_return_sequences=count,
        pad_token_id=pad_id(chat),
        eos_token_id=sorted(chat.end_ids),
        **sampling,
    )
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=chance, device=chance.device)))
    output = model.generate(input_ids=ids.to(device()), attention_mask=mask.to(device()), generation_config=config)
    return [row[width:].tolist() for row in output]


def _reply(chat: Chat, ids: list[int]) -> Sampled:
    end = next((at for at, token in enumerate(ids) if token in chat.end_ids), len(ids))
    return Sampled(chat.decode(ids[:end]), end < len(ids))
