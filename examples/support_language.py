"""What customers and assistants say, put together from the phrase tables in phrases/*.toml, and reproducible dice."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

PHRASES = Path(__file__).parent / "phrases"
TOPICS = ("delivery", "return", "address", "payment", "product", "warranty", "hours", "cancel")
LANGUAGES = ("en", "de", "es", "zh")

T = TypeVar("T")


class Dice:
    """Random choices that stay the same on every Python: they rest on random() alone, whose sequence is guaranteed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[self.number(0, len(items) - 1)]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """A key, as often as its weight says."""
        rest = self._random() * math.fsum(weights.values())  # sum() of floats differs between Pythons
        for item, weight in weights.items():
            rest -= weight
            if rest < 0:
                return item
        return next(reversed(list(weights)))


@dataclass(frozen=True)
class Subject:
    """What a conversation is about: the same in every language, so that a reply can be said in the wrong one."""

    order: str
    product: int
    past: int
    soon: int
    amount: int

    @classmethod
    def draw(cls, dice: Dice) -> Subject:
        return cls(
            order=f"K-{dice.number(10, 99)}",
            product=dice.number(0, 11),
            past=dice.number(0, 5),
            soon=dice.number(0, 5),
            amount=dice.number(0, 6),
        )


class Language:
    """One language's phrases."""

    def __init__(self, name: str) -> None:
        self._phrases: dict[str, Any] = tomllib.loads((PHRASES / f"{name}.toml").read_text(encoding="utf-8"))
        self.name = name
        self.locales: list[str] = self._phrases["locales"]

    def say(self, phrase: str, subject: Subject, **more: str) -> str:
        """A phrase with its gaps filled."""
        table = self._phrases
        return phrase.format(
            order=subject.order,
            product=table["products"][subject.product],
            date=table["days"][subject.past],
            soon=table["days"][subject.soon],
            amount=table["amounts"][subject.amount],
            **more,
        )

    def phrases(self, kind: str, topic: str | None = None) -> list[str]:
        """All phrases of a kind: of a topic, or those that fit anywhere."""
        found: list[str] = self._phrases[topic][kind] if topic else self._phrases[kind]
        return found

    def one(self, dice: Dice, kind: str, subject: Subject, topic: str | None = None, **more: str) -> str:
        return self.say(dice.pick(self.phrases(kind, topic)), subject, **more)

    def join(self, *sentences: str) -> str:
        """One message of several sentences; the first letter is a capital where the language has them."""
        text = str(self._phrases["joiner"]).join(sentence for sentence in sentences if sentence)
        start = 1 if text[:1] in "¿¡" else 0
        return text[:start] + text[start : start + 1].upper() + text[start + 1 :]

    # --- customers

    def question(self, dice: Dice, topic: str, subject: Subject, greets: bool) -> str:
        """Perhaps a greeting, a request, perhaps a detail, perhaps a closing."""
        opener = self.one(dice, "openers", subject) if greets else ""
        detail = self.one(dice, "details", subject, topic) if dice.chance(0.3) else ""
        return self.join(opener, self.one(dice, "asks", subject, topic), detail, self.one(dice, "closers", subject))

    def again(self, dice: Dice, topic: str, subject: Subject) -> str:
        """The same request in other words, after a reply that missed it."""
        complaint, ask = self.one(dice, "complaints", subject), self.one(dice, "asks", subject, topic)
        return self.join(
            complaint, self.join(ask), self.one(dice, "details", subject, topic) if dice.chance(0.4) else ""
        )

    def follow_up(self, dice: Dice, topic: str, subject: Subject) -> str:
        detail = self.one(dice, "details", subject, topic) if dice.chance(0.3) else ""
        return self.join(self.one(dice, "follow_ups", subject, topic), detail)

    # --- assistants

    def repeated(self, reply: str) -> str:
        return self.join(reply, reply)

    def long_winded(self, dice: Dice, reply: str) -> str:
        fillers = self.phrases("filler")
        first = dice.number(0, len(fillers) - 1)
        return self.join(fillers[first], reply, fillers[(first + 1) % len(fillers)])
