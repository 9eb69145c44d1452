"""Probes: fixed exchanges whose log-probabilities are recorded at training and compared after every load.

An engine can take an adapter and silently not apply it; that shows here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from msgspec import Struct

from feedback.dataset.tables import ServedTurn
from feedback.records import Message
from models.batches import lay_out, reply_logps
from models.chat import Chat
from models.loading import device, pad_id
from models.reward import encode
from models.sampling import choose_prompts

_COUNT = 8
_FALLBACK = (("Hello, can you help me?", "Of course, how can I help?"), ("Thank you!", "You are welcome."))


class Probe(Struct, frozen=True):
    """A context and a reply to it."""

    messages: list[Message]
    reply: str


def choose_probes(turns: Sequence[ServedTurn]) -> list[Probe]:
    """A few exchanges of the gate split; two fixed ones where it has none."""
    chosen = [Probe(turn.prompt, turn.reply) for turn in choose_prompts(turns, "gate", _COUNT) if turn.reply.strip()]
    return chosen or [Probe([{"role": "user", "content": prompt}], reply) for prompt, reply in _FALLBACK]


@torch.no_grad()
def mean_logprobs(model: Any, chat: Chat, probes: Sequence[Probe], max_length: int) -> list[float]:
    """Log-probability per token of each probe's reply, nats; one at a time, so that no padding changes a digit."""
    model.eval()
    found = []
    for probe in probes:
        batch = lay_out([encode(chat, probe.messages, [probe.reply], max_length)], pad_id(chat))
        batch = {name: tensor.to(device()) for name, tensor in batch.items()}
        found.append(float(reply_logps(model, batch)) / int(batch["lengths"]))
    return found
