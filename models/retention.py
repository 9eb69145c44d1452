"""What a candidate kept of its base: how far it went from it, token by token, and which facts it no longer knows.

A candidate is trained to differ on prompts like the gate's; on neutral questions it should differ little. The distance is
the mean, over the tokens of the candidate's own replies, of KL(candidate ‖ base) over the whole vocabulary: zero where
nothing was learned. It is measured along replies that were sampled on the gate's prompts, and along the likeliest ones to
the questions of models/facts.py, which both answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor

from feedback.records import Message
from models.batches import Row, hidden_states, lay_out, logits_of
from models.chat import Chat
from models.cutting import prompt_room
from models.facts import FACTS, Fact
from models.lengths import encode
from models.loading import pad_id
from models.prefix import beside_base
from models.sampling import Sampled, sample

_ANSWER_TOKENS = 32
_ROWS_AT_ONCE = 8
_TOKENS_AT_ONCE = 64  # that have all their logits at the same time, twice


class FactsKept(Struct, frozen=True):
    """Of the fixed questions: how many either answers rightly, and which the candidate lost and gained against the base."""

    asked: int
    base_right: int
    candidate_right: int
    lost: list[str]
    gained: list[str]
    said: str
    """The same in a sentence."""


class Retention(Struct, frozen=True):
    """Distances from the base in nats per token (None: the gate split has no prompts), and facts."""

    gate_kl: float | None
    neutral_kl: float
    facts: FactsKept


def measure_retention(
    model: Any,
    chat: Chat,
    replies: Sequence[tuple[list[Message], Sampled]],
    max_length: int,
    facts: Sequence[Fact] = FACTS,
) -> Retention:
    """What the adapter that is active in `model` (of peft) kept; `replies` are its own, to the gate's prompts."""
    room = prompt_room(max_length, _ANSWER_TOKENS)
    prompts = [chat.prompt([{"role": "user", "content": fact.question}], room) for fact in facts]
    most = min(_ANSWER_TOKENS, max_length - max(map(len, prompts)))
    ours = sample(model, chat, prompts, 1, most, 0, temperature=0.0)
    with model.disable_adapter():
        theirs = sample(model, chat, prompts, 1, most, 0, temperature=0.0)
    answered = [_row(chat, *answer) for answer in zip(prompts, ours, strict=True)]
    sampled: list[Row] = []
    for messages, reply in replies:
        prompt, (ids,) = encode(chat, messages, [reply.text], max_length)
        sampled.append((prompt, [ids if reply.ended else chat.without_end(ids)]))
    return Retention(
        gate_kl=mean_kl(model, sampled, pad_id(chat)) if sampled else None,
        neutral_kl=mean_kl(model, answered, pad_id(chat)),
        facts=compare_facts(facts, [a.text for a in theirs], [a.text for a in ours]),
    )


def compare_facts(facts: Sequence[Fact], base: Sequence[str], candidate: Sequence[str]) -> FactsKept:
    """Which of the facts these answers get right."""
    before = [fact.answered(reply) for fact, reply in zip(facts, base, strict=True)]
    after = [fact.answered(reply) for fact, reply in zip(facts, candidate, strict=True)]
    told = list(zip(facts, before, after, strict=True))
    lost = [fact.name for fact, was, now in told if was and not now]
    gained = [fact.name for fact, was, now in told if now and not was]
    said = f"of {len(facts)} fixed questions the base answers {sum(before)} rightly, the candidate {sum(after)}"
    if not any(before):
        said = "this base knows none of the fixed questions' answers: only its distance tells what is forgotten"
    return FactsKept(len(facts), sum(before), sum(after), lost, gained, said)


@torch.no_grad()
def mean_kl(model: Any, rows: Sequence[Row], pad: int) -> float:
    """Mean KL(active adapter ‖ base) over the rows' reply tokens, nats."""
    model.eval()
    total, count = 0.0, 0
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        batch = {name: x.to(model.device) for name, x in lay_out(rows[first : first + _ROWS_AT_ONCE], pad).items()}
        ours, theirs = beside_base(model, partial(hidden_states, model, batch, "predictors"))
        pairs = zip(ours.split(_TOKENS_AT_ONCE), theirs.split(_TOKENS_AT_ONCE), strict=True)
        total += sum(float(_kl(logits_of(model, a), logits_of(model, b))) for a, b in pairs)
        count += len(ours)
    return total / max(count, 1)


def _kl(ours: Tensor, theirs: Tensor) -> Tensor:
    p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
    return (p.exp() * (p - q)).sum()


def _row(chat: Chat, prompt: list[int], answer: Sampled) -> Row:
    ids = chat.reply(answer.text, _ANSWER_TOKENS)
    return prompt, [ids if answer.ended else chat.without_end(ids) or ids]
