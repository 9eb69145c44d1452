"""Ensembles of reward models in one training: today's, and those whose members have a LoRA each.

Separate LoRAs are one of three times the rank, of which a member computes with its own third: in fresh weights, optimizer and
gradient that is the same, and it is trained, kept and resumed as one. A member makes no pass over what its bootstrap left
out. To score, members share the layers below the first adapted one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import TaskType
from torch import Tensor

from feedback.records import PreferencePair, UnpairedLabel
from models.bases import Base
from models.batches import Row, can_share, plan_batches
from models.chat import Chat
from models.loading import load_scorer, pad_id, training_dtype
from models.loop import train
from models.lora import with_lora
from models.prefix import prefix_of
from models.reward import HEADS, batch_of, bootstrap, encode, reward_loss, rewards, score_by
from models.settings import RewardSettings

Example = PreferencePair | UnpairedLabel
_ADAPTED = ".lora_A.default"


@dataclass(frozen=True)
class Kind:
    """How members differ: a LoRA of this rank each, or of this rank for all; and what is drawn for each: labels, conversations."""

    separate: bool
    rank: int
    drawn: str | None


KINDS = {
    "one LoRA, labels drawn (today's)": Kind(False, 16, "labels"),
    "one LoRA, conversations drawn": Kind(False, 16, "conversations"),
    "three LoRAs of rank 5, labels drawn": Kind(True, 5, "labels"),
    "three LoRAs of rank 16, labels drawn": Kind(True, 16, "labels"),
    "three LoRAs of rank 5, conversations drawn": Kind(True, 5, "conversations"),
    "three LoRAs of rank 5, nothing drawn": Kind(True, 5, None),
}


class Ensemble:
    """A reward model of this kind on the base, with fresh weights of this seed."""

    def __init__(self, base: Base, kind: Kind, settings: RewardSettings, seed: int) -> None:
        scorer = load_scorer(base.path, HEADS, seed, training_dtype(base.path))
        rank = kind.rank * HEADS if kind.separate else kind.rank
        self.model = with_lora(scorer, TaskType.SEQ_CLS, rank, settings.lora_layers, seed)
        self.kind, self._settings, self._seed, self._rate = kind, settings, seed, settings.rate(base.tiny)
        self._choose(None)
        self._adapted = [
            name.removesuffix(_ADAPTED) for name, _ in self.model.named_modules() if name.endswith(_ADAPTED)
        ]
        for name in self._adapted if kind.separate else ():
            self.model.get_submodule(name + _ADAPTED).register_forward_hook(self._masked)

    def fit(self, examples: Sequence[Example], chat: Chat, max_length: int, work: Path) -> float:
        """Train on these examples; the seconds that it took."""
        rows = [encode(chat, x.prompt, _replies(x), max_length) for x in examples]
        draws = {x.id: self._draw(x) for x in examples}
        lay_out = partial(batch_of, pad=pad_id(chat), share=can_share(self.model))

        def collate(batch: list[int]) -> dict[str, Any]:
            parts = [(None, batch, draws.__getitem__)] if not self.kind.separate else [
                (member, part, partial(_only, draws, member))
                for member in range(HEADS)
                if (part := [n for n in batch if draws[examples[n].id][member]])
            ]  # fmt: skip
            laid_out = [
                {"member": member, "share": len(part) / len(batch)}
                | lay_out([examples[n] for n in part], [rows[n] for n in part], draw=draw)
                for member, part, draw in parts
            ]
            return {"parts": laid_out}

        lengths = [len(prompt) + sum(map(len, replies)) for prompt, replies in rows]
        plan = plan_batches(lengths, self._settings.batch_size, self._seed, self._settings.epochs)
        start = time.perf_counter()
        train(
            self.model, plan, collate, self._loss, work,
            learning_rate=self._rate, seed=self._seed, report=lambda here, of: None,
        )  # fmt: skip
        return time.perf_counter() - start

    def score(self, rows: Sequence[Row], chat: Chat) -> Tensor:
        """Each member's reward of each reply, [replies, members]."""
        return score_by(self._members if self.kind.separate else rewards, self.model, rows, pad_id(chat))

    def _draw(self, example: Example) -> list[float]:
        if self.kind.drawn is None:
            return [1.0] * HEADS
        return bootstrap(f"{self._seed}:{example.id if self.kind.drawn == 'labels' else example.conversation_id}")

    def _loss(self, model: Any, batch: dict[str, Any]) -> Tensor:
        """Of all members; but for the last, each one's gradient is computed before the next one's pass, which needs its memory."""
        total = torch.zeros(())
        for number, part in enumerate(batch["parts"], start=1):
            self._choose(part["member"])
            loss = part["share"] * reward_loss(model, part)
            if number < len(batch["parts"]):
                loss.backward()
            total = total.to(loss.device) + (loss.detach() if number < len(batch["parts"]) else loss)
        return total

    def _members(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        prefix, found = prefix_of(model, self._adapted), []
        for member in range(HEADS):
            self._choose(member)
            with prefix.begun_at(prefix.first) if member else prefix.kept():
                found.append(rewards(model, batch)[:, member])
        return torch.stack(found, dim=1)

    def _masked(self, _: Any, __: Any, found: Tensor) -> Tensor:
        return found * self._keep.flatten().to(found.dtype)

    def _choose(self, member: int | None) -> None:
        """From now on, also where a layer is computed again for its gradient: of the LoRA the member's third; None: all."""
        self._keep = torch.ones(HEADS, self.kind.rank, device=self.model.device)
        if member is not None:
            self._keep *= torch.arange(HEADS, device=self.model.device)[:, None] == member


def _only(draws: dict[str, list[float]], member: int, key: str) -> list[float]:
    return [weight if number == member else 0.0 for number, weight in enumerate(draws[key])]


def _replies(example: Example) -> list[str]:
    return [example.chosen, example.rejected] if isinstance(example, PreferencePair) else [example.reply]
