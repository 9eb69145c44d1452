"""Pairs that the reward model chooses: best and worst among k samples of the base to train prompts.

The gate split is never touched. Rewards are the heads' mean less their spread (arXiv 2310.02743), freed of their trend
with length; a pair's preference is the calibrated probability, so a reward model without signal yields no pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from feedback.dataset.tables import ServedTurn
from feedback.durable import write_json
from feedback.records import PreferencePair, Provenance
from models.chat import Chat
from models.cutting import prompt_room
from models.loop import Report
from models.reward import RewardModel, encode, sigmoid
from models.sampling import PROMPTS_AT_ONCE, choose_prompts, sample
from models.settings import PolicySettings
from models.snapshot import SnapshotData

_MIN_PREFERENCE = 0.55


class Scored(Struct, frozen=True):
    """One sampled reply: the heads' mean reward, their spread, and its length in tokens."""

    reply: str
    reward: float
    spread: float
    length: int


def sample_prompts(
    model: Any, chat: Chat, data: SnapshotData, settings: PolicySettings, max_length: int, work: Path, report: Report
) -> list[tuple[ServedTurn, list[str]]]:
    """k samples of the base to each chosen train prompt; each batch is a file in `work`, so a kill loses one at most."""
    turns = choose_prompts(data.turns, "train", settings.best_of_prompts) if settings.best_of > 1 else []
    work.mkdir(parents=True, exist_ok=True)
    batches = [turns[i : i + PROMPTS_AT_ONCE] for i in range(0, len(turns), PROMPTS_AT_ONCE)]
    sampled: list[tuple[ServedTurn, list[str]]] = []
    for number, batch in enumerate(batches):
        path = work / f"{number:05d}.json"
        if not path.exists():
            prompts = [chat.prompt(turn.prompt, prompt_room(max_length, settings.sample_tokens)) for turn in batch]
            most = min(settings.sample_tokens, max_length - max(map(len, prompts)))
            write_json(path, sample(model, chat, prompts, settings.best_of, most, settings.seed + 1_000 + number))
        replies = json.loads(path.read_bytes())
        k = settings.best_of
        sampled += [(turn, replies[i * k : (i + 1) * k]) for i, turn in enumerate(batch)]
        report(number + 1, len(batches))
    return sampled


def reward_pairs(
    sampled: Sequence[tuple[ServedTurn, list[str]]], judge: RewardModel, settings: PolicySettings, other_weight: float
) -> list[PreferencePair]:
    """The pairs that `judge` chooses among these samples; `other_weight` is the weight of all other labels together."""
    if not sampled:  # `best_of` is below 2, or there are no train prompts
        return []
    rows = [encode(judge.chat, turn.prompt, replies, judge.max_length) for turn, replies in sampled]
    scores = judge.score(rows)
    flat = [reply for _, replies in sampled for reply in replies]
    lengths = [len(ids) for _, encoded in rows for ids in encoded]
    scored = [Scored(*values) for values in zip(flat, scores.mean, scores.spread, lengths, strict=True)]
    k = settings.best_of
    groups = [scored[i : i + k] for i in range(0, len(scored), k)]
    trend = length_trend(groups)
    chosen = [
        (turn, *found)
        for (turn, _), group in zip(sampled, groups, strict=True)
        if (found := best_and_worst(group, trend, judge.calibration.slope))
    ]
    weight = min(settings.best_of_weight, 0.5 * other_weight / max(1, len(chosen)))
    return [_pair(turn, best, worst, preference, weight)
            for turn, best, worst, preference in chosen if weight > 0]  # fmt: skip


def length_trend(groups: Sequence[Sequence[Scored]]) -> float:
    """Reward per token of length: least squares over replies, each against the mean of its prompt."""
    above = below = 0.0
    for group in groups:
        length = sum(s.length for s in group) / len(group)
        reward = sum(s.reward for s in group) / len(group)
        above += sum((s.length - length) * (s.reward - reward) for s in group)
        below += sum((s.length - length) ** 2 for s in group)
    return above / below if below else 0.0


def best_and_worst(group: Sequence[Scored], trend: float, slope: float) -> tuple[str, str, float] | None:
    """Best reply, worst reply and the probability that best is better; None where that is no better than a guess."""
    written = [s for s in group if s.reply.strip()]
    if len({s.reply for s in written}) < 2:
        return None

    def worth(s: Scored) -> float:
        return s.reward - s.spread - trend * s.length

    best, worst = max(written, key=worth), min(written, key=worth)
    margin = slope * (best.reward - worst.reward - trend * (best.length - worst.length))
    preference = sigmoid(margin)
    return (best.reply, worst.reply, preference) if preference >= _MIN_PREFERENCE else None


def _pair(turn: ServedTurn, best: str, worst: str, preference: float, weight: float) -> PreferencePair:
    return PreferencePair(
        id=f"reward_model:{turn.tenant}:{turn.turn_id}",
        prompt=turn.prompt,
        chosen=best,
        rejected=worst,
        how="reward_model",
        preference=preference,
        weight=weight,
        split="train",
        tenant=turn.tenant,
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        locale=turn.locale,
        provenance=Provenance(source="reward_model", event_ids=(), at_us=turn.occurred_at_us, confidence=preference),
    )
