"""Pairs that the reward model chooses: best and worst among k samples of the base to train prompts.

The gate split is never touched. Rewards are the heads' mean less their spread (arXiv 2310.02743), freed of that part of
their trend with length that people's labels do not confirm (models/length_wish.py); a pair's preference is the calibrated
probability, so a reward model without signal yields no pairs.

A sample that was cut at its limit is a beginning, of which nobody knows what it would have been worth. It is compared with
other beginnings only, where complete replies give no pair, and is learned without an end. Against a complete one it would
win or lose by its length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from feedback.dataset.tables import ServedTurn
from feedback.durable import write_json
from feedback.records import BY_PEOPLE, PreferencePair, Provenance
from feedback.texts import is_blank
from models.chat import Chat
from models.cutting import prompt_room
from models.length_wish import confirmed_share, length_trend
from models.lengths import encode
from models.loop import Report
from models.reward import RewardModel, sigmoid
from models.sampling import PROMPTS_AT_ONCE, Sampled, choose_prompts, sample
from models.settings import PolicySettings
from models.snapshot import SnapshotData

_MIN_PREFERENCE = 0.55

Group = tuple[ServedTurn, list[Sampled]]
"""A turn, and samples of the base to its prompt."""


class SampledPair(PreferencePair, frozen=True, kw_only=True):
    """A pair of samples; where they have not `ended`, they were cut at their limit."""

    ended: bool


class Scored(Struct, frozen=True):
    """One sampled reply: the heads' mean reward, their spread, its length in tokens, and whether it ended."""

    reply: str
    reward: float
    spread: float
    length: int
    ended: bool = True


class BestOf(Struct, frozen=True):
    """What the samples were, and what became of them: for the report."""

    samples: int
    cut: int
    """Of them, at their limit."""
    pairs: int
    pairs_cut: int
    """Of them, of samples that were cut."""
    length_trend: float
    """Reward per token of length."""
    confirmed: float
    """The share of that trend that held-out labels by people confirm, 0 to 1; the rest was taken out."""


def sample_prompts(
    model: Any,
    chat: Chat,
    data: SnapshotData,
    settings: PolicySettings,
    max_length: int,
    max_tokens: int,
    work: Path,
    report: Report,
) -> list[Group]:
    """k samples, of `max_tokens` at most, of the base to each chosen train prompt.

    Each batch is a file in `work`, so a kill loses one at most.
    """
    turns = choose_prompts(data.turns, "train", settings.best_of_prompts) if settings.best_of > 1 else []
    work.mkdir(parents=True, exist_ok=True)
    batches = [turns[i : i + PROMPTS_AT_ONCE] for i in range(0, len(turns), PROMPTS_AT_ONCE)]
    sampled: list[Group] = []
    for number, batch in enumerate(batches):
        path = work / f"samples-{number:05d}.json"
        if not path.exists():
            prompts = [chat.prompt(turn.prompt, prompt_room(max_length, max_tokens)) for turn in batch]
            most = min(max_tokens, max_length - max(map(len, prompts)))
            found = sample(model, chat, prompts, settings.best_of, most, settings.seed + 1_000 + number)
            write_json(path, msgspec.to_builtins(found))
        replies = msgspec.convert(json.loads(path.read_bytes()), list[Sampled])
        k = settings.best_of
        sampled += [(turn, replies[i * k : (i + 1) * k]) for i, turn in enumerate(batch)]
        report(number + 1, len(batches))
    return sampled


def reward_pairs(
    sampled: Sequence[Group], judge: RewardModel, settings: PolicySettings, data: SnapshotData
) -> tuple[list[SampledPair], BestOf]:
    """The pairs that `judge` chooses among these samples; together they weigh at most half of `data`'s labels."""
    if not sampled:  # `best_of` is below 2, or there are no train prompts
        return [], BestOf(0, 0, 0, 0, 0.0, 0.0)
    groups = _score(sampled, judge)
    trend = length_trend([part for group in groups for part in _comparable(group)])
    confirmed = confirmed_share(_wishes(judge, data), trend)
    chosen = [
        (turn, *found)
        for (turn, _), group in zip(sampled, groups, strict=True)
        if (found := best_and_worst(group, (1 - confirmed) * trend, judge.calibration.slope))
    ]
    weight = min(settings.best_of_weight, 0.5 * data.preference_weight("train") / max(1, len(chosen)))
    pairs = [_pair(turn, best, worst, preference, weight)
             for turn, best, worst, preference in chosen if weight > 0]  # fmt: skip
    flat = [s for group in groups for s in group]
    cut = sum(not s.ended for s in flat)
    return pairs, BestOf(len(flat), cut, len(pairs), sum(not p.ended for p in pairs), trend, confirmed)


def _score(sampled: Sequence[Group], judge: RewardModel) -> list[list[Scored]]:
    texts = [[sample.text for sample in samples] for _, samples in sampled]
    rows = [
        encode(judge.chat, turn.prompt, each, judge.max_length) for (turn, _), each in zip(sampled, texts, strict=True)
    ]
    scores = judge.score(rows)
    values = iter(zip(scores.mean, scores.spread, (len(ids) for _, encoded in rows for ids in encoded), strict=True))
    return [[Scored(s.text, *next(values), s.ended) for s in samples] for _, samples in sampled]


def _wishes(judge: RewardModel, data: SnapshotData) -> list[tuple[float, float, float, float, float]]:
    """Held-out labels by people, as points of `confirmed_share`."""
    pairs = [x for x in data.pairs if x.split == "calibrate" and x.provenance.source in BY_PEOPLE]
    labels = [x for x in data.labels if x.split == "calibrate" and x.provenance.source in BY_PEOPLE]
    rows = [encode(judge.chat, x.prompt, [x.chosen, x.rejected], judge.max_length) for x in pairs]
    rows += [encode(judge.chat, x.prompt, [x.reply], judge.max_length) for x in labels]
    scored = iter(zip(judge.score(rows).mean, (float(len(ids)) for _, replies in rows for ids in replies), strict=True))
    points = []
    for pair in pairs:
        (chosen, longer), (rejected, shorter) = next(scored), next(scored)
        points.append((chosen - rejected, longer - shorter, 0.0, pair.preference, pair.weight))
    return points + [(*next(scored), 1.0, label.desirable, label.weight) for label in labels]


def best_and_worst(group: Sequence[Scored], trend: float, slope: float) -> tuple[Scored, Scored, float] | None:
    """Best reply, worst reply and the probability that best is better; None where that is no better than a guess.

    Among those that ended; where they give none, among those that were cut.
    """

    def worth(s: Scored) -> float:
        return s.reward - s.spread - trend * s.length

    for written in _comparable(group):
        best, worst = max(written, key=worth), min(written, key=worth)
        preference = sigmoid(slope * (best.reward - worst.reward - trend * (best.length - worst.length)))
        if preference >= _MIN_PREFERENCE:
            return best, worst, preference
    return None


def _comparable(group: Sequence[Scored]) -> Iterator[list[Scored]]:
    """Those that say different things and can be compared: first the complete ones, then the beginnings."""
    for ended in (True, False):
        written = [s for s in group if not is_blank(s.reply) and s.ended == ended]
        if len({s.reply for s in written}) > 1:
            yield written


def _pair(turn: ServedTurn, best: Scored, worst: Scored, preference: float, weight: float) -> SampledPair:
    return SampledPair(
        id=f"reward_model:{turn.tenant}:{turn.conversation_id}:{turn.turn_id}",
        prompt=turn.prompt,
        chosen=best.reply,
        rejected=worst.reply,
        ended=best.ended,
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
