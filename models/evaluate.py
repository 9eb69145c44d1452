"""What a candidate's report says: the reward model on held-out labels, samples beside the incumbent's, and probes.

Everything here looks at the gate split. Nothing here decides: deploy's gate does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import torch
from msgspec import Struct, to_builtins
from peft import PeftModel

from feedback.content import joined
from feedback.dataset.tables import ServedTurn
from feedback.records import BY_PEOPLE, Demonstration, Message, PreferencePair, TurnKey, UnpairedLabel
from feedback.statistics.intervals import wilson
from models.adapters import make_manifest
from models.bases import Base
from models.chat import Chat
from models.cutting import prompt_room
from models.lengths import encode
from models.loading import load_causal, release_memory, training_dtype
from models.loop import Report
from models.measures import calibration_error, correlation, language_match, median_of_cut, repetition
from models.overlap import Seen, mean_interval, seen_in_train
from models.policy import Method
from models.probes import choose_probes, report_probes
from models.retention import measure_retention
from models.reward import RewardModel
from models.sampling import PROMPTS_AT_ONCE, Sampled, choose_prompts, sample
from models.snapshot import SnapshotData
from models.unlearned import FEW, on_gate_labels

_SAMPLES = 32
SIDES: tuple[Literal["candidate"], Literal["incumbent"]] = ("candidate", "incumbent")


class Accuracy(Struct, frozen=True):
    """On the held-out labels of one kind of prompts: those that train has seen too, or those that it has not."""

    accuracy: float | None
    interval: tuple[float, float]
    holdout: int
    few: str | None
    """That they are too few to tell, in a sentence."""


class RewardQuality(Struct, frozen=True):
    """How well the reward model predicts held-out labels."""

    metric: Literal["pairs", "thumbs"]
    accuracy: float | None
    interval: tuple[float, float]
    holdout: int
    majority_baseline: float | None
    calibration_error: float | None
    length_correlation: float | None
    few: str | None
    """What these figures can't say, in a sentence."""
    seen: Accuracy
    unseen: Accuracy


class SampleStats(Struct, frozen=True):
    """What a policy's samples look like; None where there is nothing to tell it from."""

    mean_tokens: float | None
    """Where samples were `cut`, the replies would have been longer: at least so many."""
    median_tokens: float | None
    """The same, but as it is while fewer than half were cut."""
    repetition: float | None
    language_match: float | None
    count: int
    cut: int
    """Samples that had not ended at their limit."""
    mean_interval: tuple[float, float] | None = None
    """Of `mean_tokens`, at 95%; None where fewer than two samples tell nothing of it."""


class Wanted(Struct, frozen=True):
    """The gate split's replies that people wanted: by a demonstration, a pick, an edit or a rating."""

    count: int
    median_tokens: float | None


class Sample(Struct, frozen=True):
    """One gate prompt answered by both policies with the same seed."""

    prompt: list[Message]
    locale: str | None
    candidate: str
    incumbent: str
    candidate_ended: bool = True
    incumbent_ended: bool = True
    """Whether it was not cut at its limit."""
    turn: TurnKey | None = None
    """Whose prompt it is: tenant, conversation, turn."""


def judge_reward(model: RewardModel, data: SnapshotData, seen: Seen | None = None) -> RewardQuality:
    """Accuracy on the gate split's pairs where there are enough, else on its thumbs; where both are few, on the more."""
    pairs = [pair for pair in data.pairs if pair.split == "gate" and pair.preference > 0.5]
    thumbs = [x for x in data.labels if x.split == "gate" and x.kind == "thumbs" and x.desirable != 0.5]
    seen = seen or seen_in_train(data)
    return _on_pairs(model, pairs, seen) if len(pairs) >= min(FEW, len(thumbs) + 1) else _on_thumbs(model, thumbs, seen)


def _on_pairs(model: RewardModel, pairs: Sequence[PreferencePair], seen: Seen) -> RewardQuality:
    rows = [encode(model.chat, pair.prompt, [pair.chosen, pair.rejected], model.max_length) for pair in pairs]
    rewards = model.score(rows).mean
    margins = [chosen - rejected for chosen, rejected in zip(rewards[::2], rewards[1::2], strict=True)]
    right = [1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins]
    confidence = [model.calibration.better(abs(m)) for m in margins]
    few, known = on_gate_labels("pairs", len(pairs), len(pairs)), [seen(pair.prompt) for pair in pairs]
    return _quality("pairs", right, confidence, 0.5, rewards, rows, few, known)


def _on_thumbs(model: RewardModel, labels: Sequence[UnpairedLabel], seen: Seen) -> RewardQuality:
    rows = [encode(model.chat, label.prompt, [label.reply], model.max_length) for label in labels]
    rewards = model.score(rows).mean
    wanted = [model.calibration.wanted(reward) for reward in rewards]
    right = [float((p > 0.5) == (x.desirable > 0.5)) for p, x in zip(wanted, labels, strict=True)]
    up = sum(label.desirable > 0.5 for label in labels)
    baseline = max(up, len(labels) - up) / len(labels) if labels else None
    few = on_gate_labels("thumbs", len(labels), up)
    known = [seen(label.prompt) for label in labels]
    return _quality("thumbs", right, [max(p, 1 - p) for p in wanted], baseline, rewards, rows, few, known)


def _quality(
    metric: Literal["pairs", "thumbs"],
    right: Sequence[float],
    confidence: Sequence[float],
    baseline: float | None,
    rewards: Sequence[float],
    rows: Sequence[Any],
    few: str | None,
    seen: Sequence[bool],
) -> RewardQuality:
    """`seen`: of each label, whether train has its prompt."""
    n = len(right)
    return RewardQuality(
        metric=metric,
        accuracy=sum(right) / n if n else None,
        interval=wilson(sum(right) / n if n else 0.0, n, 0.975),
        holdout=n,
        majority_baseline=baseline,
        calibration_error=calibration_error(confidence, right),
        length_correlation=correlation(rewards, [float(len(ids)) for _, replies in rows for ids in replies]),
        few=few,
        seen=_accuracy([one for one, known in zip(right, seen, strict=True) if known], "seen"),
        unseen=_accuracy([one for one, known in zip(right, seen, strict=True) if not known], "not seen"),
    )


def _accuracy(right: Sequence[float], kind: str) -> Accuracy:
    n, share = len(right), fmean(right) if right else None
    few = (
        f"{n} gate labels are of prompts that train has {kind}: {FEW} are wanted to tell anything" if n < FEW else None
    )
    return Accuracy(share, wilson(share or 0.0, n, 0.975), n, few)


def load_policies(base: Base, adapter: Path, incumbent: Path | None, dtype: torch.dtype | None = None) -> Any:
    """The base with the adapters `candidate` and, where there is one, `incumbent`, which has been checked."""
    model = PeftModel.from_pretrained(
        load_causal(base.path, dtype or training_dtype(base.path)), str(adapter), adapter_name="candidate"
    )
    if incumbent:
        model.load_adapter(str(incumbent / "adapter"), adapter_name="incumbent")
    return model.eval()


def sample_both(
    model: Any, chat: Chat, turns: Sequence[ServedTurn], max_length: int, max_tokens: int, seed: int, report: Report
) -> list[Sample]:
    """A few dozen gate prompts, answered by the candidate and by the incumbent (or the bare base) with the same seeds."""
    chosen = choose_prompts(turns, "gate", _SAMPLES)
    batches = [chosen[i : i + PROMPTS_AT_ONCE] for i in range(0, len(chosen), PROMPTS_AT_ONCE)]
    samples = []
    for number, batch in enumerate(batches):
        prompts = [chat.prompt(turn.prompt, prompt_room(max_length, max_tokens)) for turn in batch]
        most = min(max_tokens, max_length - max(map(len, prompts)))

        def answer(prompts: list[list[int]] = prompts, most: int = most, seed: int = seed + number) -> list[Sampled]:
            return sample(model, chat, prompts, 1, most, seed)

        model.set_adapter("candidate")
        ours = answer()
        theirs = _as_incumbent(model, answer)
        samples += [
            Sample(t.prompt, t.locale, a.text, b.text, a.ended, b.ended, (t.tenant, t.conversation_id, t.turn_id))
            for t, a, b in zip(batch, ours, theirs, strict=True)
        ]
        report(number + 1, len(batches))
    model.set_adapter("candidate")
    return samples


def _as_incumbent(model: Any, answer: Callable[[], list[Sampled]]) -> list[Sampled]:
    if "incumbent" in model.peft_config:
        model.set_adapter("incumbent")
        return answer()
    with model.disable_adapter():
        return answer()


def describe_samples(chat: Chat, samples: Sequence[Sample], side: Literal["candidate", "incumbent"]) -> SampleStats:
    """Length, repetition and language of one side's samples."""
    if not samples:
        return SampleStats(None, None, None, None, 0, 0)
    replies = [getattr(sample, side) for sample in samples]
    ended = [getattr(sample, f"{side}_ended") for sample in samples]
    tokens = [len(chat.content(reply)) for reply in replies]
    prompts = ["\n".join(joined(m.get("content")) for m in s.prompt if m.get("role") == "user") for s in samples]
    matches = [language_match(p, s.locale, r) for p, s, r in zip(prompts, samples, replies, strict=True)]
    decided = [match for match in matches if match is not None]
    return SampleStats(
        mean_tokens=sum(tokens) / len(tokens),
        median_tokens=median_of_cut(tokens, ended),
        repetition=sum(map(repetition, replies)) / len(replies),
        language_match=sum(decided) / len(decided) if decided else None,
        count=len(replies),
        cut=ended.count(False),
        mean_interval=mean_interval([float(count) for count in tokens]),
    )


def describe_by_prompt(chat: Chat, samples: Sequence[Sample], seen: Seen) -> dict[str, dict[str, SampleStats]]:
    """Either side's samples, of prompts that train has `seen` too and of those `unseen`."""
    known = [seen(sample.prompt) for sample in samples]
    return {
        kind: {
            side: describe_samples(
                chat, [one for one, found in zip(samples, known, strict=True) if found == wanted], side
            )
            for side in SIDES
        }
        for kind, wanted in (("seen", True), ("unseen", False))
    }


def wanted_length(chat: Chat, data: SnapshotData) -> Wanted:
    """How long the replies are that people wanted."""
    replies: list[tuple[Demonstration | PreferencePair | UnpairedLabel, str]]
    replies = [(x, x.reply) for x in data.demonstrations]
    replies += [(x, x.chosen) for x in data.pairs if x.preference > 0.5]
    replies += [(x, x.reply) for x in data.labels if x.desirable > 0.5]
    lengths = [
        len(chat.content(reply)) for x, reply in replies if x.split == "gate" and x.provenance.source in BY_PEOPLE
    ]
    return Wanted(len(lengths), median(lengths) if lengths else None)


def evaluate(
    base: Base, chat: Chat, data: SnapshotData, judge: RewardModel, adapter: Path, incumbent: Path | None,
    method: Method, max_length: int, sample_tokens: int, report: Report,
) -> dict[str, Any]:  # fmt: skip
    """The report, but for digest, time, seconds and memory, which the job knows."""
    seen = seen_in_train(data)
    quality = judge_reward(judge, data, seen)
    model = load_policies(base, adapter, incumbent)
    samples = sample_both(model, chat, data.turns, max_length, sample_tokens, 5_000, report)
    replies = [(sample.prompt, Sampled(sample.candidate, sample.candidate_ended)) for sample in samples]
    retention = measure_retention(model, chat, replies, max_length)
    del model
    release_memory()
    stats: dict[str, SampleStats | Wanted] = {"wanted": wanted_length(chat, data)}
    stats |= {side: describe_samples(chat, samples, side) for side in SIDES}
    digest = make_manifest(adapter, base, chat.date).digest
    probes = choose_probes(data.turns, lambda text: len(chat.content(text)))
    model = load_policies(base, adapter, None, torch.float32)  # its weights as they are: in bfloat16 they may be others
    content: dict[str, Any] = to_builtins(
        {
            "snapshot": data.name,
            "dataset_hash": data.dataset_hash,
            "base": {"name": base.name, "revision": base.revision},
            "incumbent": incumbent.name if incumbent else None,
            "method": method,
            "reward_model": quality,
            "samples": samples,
            "sample_stats": stats,
            "sample_stats_by_prompt": describe_by_prompt(chat, samples, seen),
            "retention": retention,
            "probes": report_probes(model, "candidate", digest, base, chat, probes, max_length),
        }
    )
    return content
