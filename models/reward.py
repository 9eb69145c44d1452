"""The reward model: three heads on one LoRA-adapted base, trained on pairs and unpaired labels, then calibrated.

Each head sees its own bootstrap of the labels (Poisson weights by label id; arXiv 2310.02743). Their spread says how far the
heads disagree, and little of where their mean is wrong. A LoRA for each head disagrees more and says no more, at twice the
training (bench/ensemble.py), so they share one. Rewards are logits: Platt scaling on the calibrate split turns them, or a difference of
two, into probabilities.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from peft import PeftModel, TaskType
from torch import Tensor

from feedback.durable import staged, write_json
from feedback.records import PreferencePair, UnpairedLabel
from models.bases import Base
from models.batches import Row, can_share, hidden_states, lay_out, plan_batches
from models.chat import Chat
from models.errors import JobFailed
from models.lengths import encode
from models.loading import device, load_scorer, pad_id, release_memory, training_dtype
from models.logistic import fit_logistic
from models.loop import Report, train
from models.lora import with_lora
from models.losses import bradley_terry, logistic
from models.settings import RewardSettings
from models.snapshot import SnapshotData

HEADS = 3
_SEED = 1
_SCORE_BATCH = 32
_RIDGE = np.array([1e-2, 1e-2])  # keeps the slope finite where a handful of labels are separated perfectly


class Calibration(Struct, frozen=True):
    """P(wanted) = sigmoid(slope * reward + offset); P(a over b) = sigmoid(slope * (reward a - reward b))."""

    slope: float
    offset: float

    def wanted(self, reward: float) -> float:
        return sigmoid(self.slope * reward + self.offset)

    def better(self, margin: float) -> float:
        return sigmoid(self.slope * margin)


class Rewards(Struct, frozen=True):
    """Of n replies: mean over the heads, and the heads' standard deviation."""

    mean: list[float]
    spread: list[float]


class RewardModel:
    """Scores replies. Make one with `train_reward` or `load_reward`.

    `make` gives its model; it is held while it scores only, so that whatever comes next has the memory.
    """

    def __init__(self, make: Callable[[], Any], chat: Chat, max_length: int, calibration: Calibration) -> None:
        self.chat, self.max_length, self.calibration, self._make = chat, max_length, calibration, make

    def score(self, rows: Sequence[Row]) -> Rewards:
        """Rewards of each row's replies, in order; rows as ids (see `encode`)."""
        if not rows:
            return Rewards([], [])
        try:
            heads = score_by(rewards, self._make(), rows, pad_id(self.chat))
        finally:
            release_memory()
        return Rewards(heads.mean(dim=1).tolist(), heads.std(dim=1, correction=0).tolist())


@torch.no_grad()
def score_by(read: Callable[[Any, dict[str, Tensor]], Tensor], model: Any, rows: Sequence[Row], pad: int) -> Tensor:
    """What `read` (such as `rewards`) finds of each reply, [replies, heads], on the CPU."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda n: len(rows[n][0]))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), _SCORE_BATCH):
        part = order[start : start + _SCORE_BATCH]
        batch = lay_out([rows[n] for n in part], pad, can_share(model))
        scores = read(model, {name: tensor.to(device()) for name, tensor in batch.items()}).cpu()
        found |= zip(part, scores.split([len(rows[n][1]) for n in part]), strict=True)
    return torch.cat([found[n] for n in range(len(rows))])


def rewards(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Reward of each reply by each head, read at the reply's last token, [N, heads], in float32."""
    states = hidden_states(model, batch, "ends").float()
    with torch.autocast(states.device.type, enabled=False):  # of two rewards it is the small difference that counts
        scored: Tensor = model.get_base_model().score(states)
    return scored


def train_reward(
    data: SnapshotData, base: Base, chat: Chat, settings: RewardSettings, max_length: int, work: Path, report: Report
) -> RewardModel:
    """Train the reward model on the train split and calibrate it on the calibrate split; it is kept in `work`/model."""
    kept = work / "model"
    if not kept.exists():
        examples: list[PreferencePair | UnpairedLabel] = [
            row for rows in (data.pairs, data.labels) for row in rows if row.split == "train" and row.weight > 0
        ]
        if not examples:
            raise JobFailed("the snapshot's train split has no pairs and no unpaired labels: collect ratings first")
        model = with_reward_lora(load_scorer(base.path, HEADS, _SEED, training_dtype(base.path)), settings)
        rate = settings.rate(base.tiny)
        _fit(model, chat, _bounded(examples, settings.max_labels), settings, rate, max_length, work, report)
        calibration = calibrate(RewardModel(lambda: model, chat, max_length, Calibration(1.0, 0.0)), data)
        with staged(work) as fresh:
            save_reward(model, calibration, fresh.path)
            fresh.publish(kept.name)
    return load_reward(kept, base, chat, max_length)


def load_reward(path: Path, base: Base, chat: Chat, max_length: int) -> RewardModel:
    """The reward model saved in `path`."""

    def make() -> Any:
        return PeftModel.from_pretrained(load_scorer(base.path, HEADS, _SEED, training_dtype(base.path)), str(path))

    calibration = json.loads((path / "calibration.json").read_bytes())
    return RewardModel(make, chat, max_length, Calibration(calibration["slope"], calibration["offset"]))


def save_reward(model: Any, calibration: Calibration, path: Path) -> None:
    """Write LoRA, heads and calibration to `path`, as safetensors and JSON only."""
    model.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)  # peft's model card
    config = json.loads((path / "adapter_config.json").read_bytes())
    write_json(path / "adapter_config.json", config | {"base_model_name_or_path": None, "inference_mode": True})
    write_json(path / "calibration.json", {"slope": calibration.slope, "offset": calibration.offset, "heads": HEADS})


def calibrate(model: RewardModel, data: SnapshotData) -> Calibration:
    """Platt scaling (1999) on the calibrate split's labels and pairs; where it has none, the rewards stand as they are."""
    labels = [label for label in data.labels if label.split == "calibrate"]
    pairs = [pair for pair in data.pairs if pair.split == "calibrate"]
    single = model.score([encode(model.chat, x.prompt, [x.reply], model.max_length) for x in labels]).mean
    both = model.score([encode(model.chat, x.prompt, [x.chosen, x.rejected], model.max_length) for x in pairs]).mean
    points = [(r, 1.0, x.desirable, x.weight) for r, x in zip(single, labels, strict=True)]
    points += [(c - r, 0.0, x.preference, x.weight) for c, r, x in zip(both[::2], both[1::2], pairs, strict=True)]
    return fit_platt(points)


def fit_platt(points: Sequence[tuple[float, float, float, float]]) -> Calibration:
    """Weighted logistic regression on (reward or margin, 1 or 0 for the offset, probability, weight), by Newton's method.

    A small ridge pulls towards slope 1, offset 0, which is also the answer for no points.
    """
    if not points:
        return Calibration(1.0, 0.0)
    found, ones, targets, weights = (np.array(column) for column in zip(*points, strict=True))
    slope, offset = fit_logistic(np.stack([found, ones], axis=1), targets, weights, np.array([1.0, 0.0]), _RIDGE)
    return Calibration(float(slope), float(offset))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def bootstrap(label_id: str) -> list[float]:
    """How often each head sees this label: Poisson(1) draws from a hash of its id, never none for all heads."""
    draws = []
    for head in range(HEADS):
        digest = hashlib.sha256(f"{head}:{label_id}".encode()).digest()
        uniform, count = int.from_bytes(digest[:8]) / 2**64, 0
        below = term = math.exp(-1)
        while uniform > below and count < 10:
            count += 1
            term /= count
            below += term
        draws.append(float(count))
    return draws if any(draws) else [1.0] * HEADS


def _fit(
    model: Any,
    chat: Chat,
    examples: list[PreferencePair | UnpairedLabel],
    settings: RewardSettings,
    rate: float,
    max_length: int,
    work: Path,
    report: Report,
) -> None:
    pairs = [x for x in examples if isinstance(x, PreferencePair)]
    labels = [x for x in examples if isinstance(x, UnpairedLabel)]
    rows = [encode(chat, x.prompt, [x.chosen, x.rejected], max_length) for x in pairs]
    rows += [encode(chat, x.prompt, [x.reply], max_length) for x in labels]
    ordered: list[PreferencePair | UnpairedLabel] = [*pairs, *labels]
    lengths = [len(prompt) + sum(map(len, replies)) for prompt, replies in rows]
    share = can_share(model)

    def collate(batch: list[int]) -> dict[str, Any]:
        return batch_of([ordered[n] for n in batch], [rows[n] for n in batch], pad_id(chat), share, bootstrap)

    plan = plan_batches(lengths, settings.batch_size, _SEED, settings.epochs)
    train(
        model, plan, collate, reward_loss, work / "checkpoints",
        learning_rate=rate, seed=_SEED, report=report,
    )  # fmt: skip


def batch_of(
    examples: Sequence[PreferencePair | UnpairedLabel],
    rows: Sequence[Row],
    pad: int,
    share: bool,
    draw: Callable[[str], list[float]],
) -> dict[str, Any]:
    """These examples, of which `rows` has the ids, as `reward_loss` takes them; `draw` says of an id what it weighs for each head."""
    # pairs first, so that the loss finds the replies of both kinds by position
    order = sorted(range(len(examples)), key=lambda n: not isinstance(examples[n], PreferencePair))
    paired = [x for n in order if isinstance(x := examples[n], PreferencePair)]
    single = [x for n in order if isinstance(x := examples[n], UnpairedLabel)]
    return {
        "replies": lay_out([rows[n] for n in order], pad, share),
        "preference": torch.tensor([x.preference for x in paired], dtype=torch.float32),
        "desirable": torch.tensor([x.desirable for x in single], dtype=torch.float32),
        "pair_weights": _weights(paired, draw),
        "label_weights": _weights(single, draw),
    }


def reward_loss(model: Any, batch: dict[str, Any]) -> Tensor:
    """Bradley-Terry on the batch's pairs and logistic loss on its unpaired labels, as one mean over examples."""
    scores = rewards(model, batch["replies"])
    n, m = len(batch["preference"]), len(batch["desirable"])
    both, single = scores[: 2 * n].unflatten(0, (n, 2)), scores[2 * n :]
    total = torch.zeros((), device=scores.device)
    if n:
        total = total + n * bradley_terry(both[:, 0], both[:, 1], batch["preference"], batch["pair_weights"])
    if m:
        total = total + m * logistic(single, batch["desirable"], batch["label_weights"])
    return total / (n + m)


def _weights(examples: Sequence[PreferencePair | UnpairedLabel], draw: Callable[[str], list[float]]) -> Tensor:
    """Weight of each example for each head, [n, heads]."""
    return torch.tensor([[x.weight * w for w in draw(x.id)] for x in examples]).reshape(len(examples), HEADS)


def _bounded(examples: list[PreferencePair | UnpairedLabel], most: int) -> list[PreferencePair | UnpairedLabel]:
    """At most `most` examples: the newest."""
    order = sorted(examples, key=lambda x: (-x.provenance.at_us, x.id))
    return order[:most]


def with_reward_lora(model: Any, settings: RewardSettings) -> Any:
    """The scorer with a fresh LoRA; its heads are trained with it."""
    task = TaskType.SEQ_CLS  # else the heads stay untrained, silently
    return with_lora(model, task, settings.lora_rank, settings.lora_layers, _SEED)
