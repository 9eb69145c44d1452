"""Samples replies from a model, a batch of prompts at a time; the same seed gives the same replies on one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from msgspec import Struct
from transformers import GenerationConfig

from feedback.dataset.tables import ServedTurn
from models.chat import Chat
from models.loading import device, pad_id
from models.pieces import room_bytes
from models.ragged import bytes_per_token

TEMPERATURE = 0.8
PROMPTS_AT_ONCE = 16


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
    torch.manual_seed(seed)
    model.eval()
    tokens = room_bytes(model.device) // 2 // bytes_per_token(model)  # the other half: what layers compute meanwhile
    most = max(1, tokens // (count * (max(map(len, prompts)) + max_tokens)))
    parts = [prompts[i : i + most] for i in range(0, len(prompts), most)]
    return [reply for part in parts for reply in _sample(model, chat, part, count, max_tokens, temperature)]


def _sample(
    model: Any, chat: Chat, prompts: Sequence[Sequence[int]], count: int, max_tokens: int, temperature: float
) -> list[Sampled]:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id(chat)] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    chance = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        num_return_sequences=count,
        pad_token_id=pad_id(chat),
        eos_token_id=sorted(chat.end_ids),
        **chance,
    )
    output = model.generate(input_ids=ids.to(device()), attention_mask=mask.to(device()), generation_config=config)
    return [_reply(chat, row[width:].tolist()) for row in output]


def _reply(chat: Chat, ids: list[int]) -> Sampled:
    end = next((at for at, token in enumerate(ids) if token in chat.end_ids), len(ids))
    return Sampled(chat.decode(ids[:end]), end < len(ids))
