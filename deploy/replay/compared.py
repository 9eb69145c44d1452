"""What a training changed, for a person: replies side by side on prompts that a rule chooses, and how many name the order.

The rule never looks at a reply: of the gate prompts in languages that the base knows, in the order of their hashes, the first
that name an order number and the first that name none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from feedback.content import text_of
from feedback.durable import canonical
from feedback.statistics.intervals import wilson
from models.bases import SMOLLM2
from models.measures import detect_language

ORDER_NUMBER = re.compile(r"(?<![A-Za-z0-9-])[A-Z]{1,3}-[0-9]{2,}(?![0-9])")
"""Such as K-47. Beside Chinese there is no blank, and `\\b` finds no boundary."""

NAMING, OTHERS = 3, 1
"""How many prompts are shown that name an order number, and how many that do not."""

_KNOWN = {SMOLLM2: ("en",)}
_NAMES = {"de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese", "zh": "Chinese"}  # fmt: skip

Sample = Mapping[str, Any]
"""One of a report's `samples`: prompt, locale, candidate, incumbent."""


class Share(Struct, frozen=True):
    """Of how many replies how many name the number that was asked about; its 95% interval (Wilson)."""

    named: int
    share: float
    interval: tuple[float, float]


class OrderNumbers(Struct, frozen=True):
    """Of the gate prompts whose last question names one order number: whose replies name it too."""

    prompts: int
    candidate: Share
    incumbent: Share


def order_numbers(samples: Sequence[Sample]) -> OrderNumbers | None:
    """None where no prompt names one.

    >>> told = {"prompt": [{"role": "user", "content": "Where is K-47?"}], "candidate": "K-47 is here.", "incumbent": "K-471."}
    >>> found = order_numbers([told])
    >>> (found.candidate.named, found.incumbent.named)
    (1, 0)
    """
    asked = [(sample, number) for sample in samples if (number := asked_about(sample["prompt"]))]
    if not asked:
        return None
    return OrderNumbers(len(asked), *(_share(asked, side) for side in ("candidate", "incumbent")))


def _share(asked: Sequence[tuple[Sample, str]], side: str) -> Share:
    named = sum(number in ORDER_NUMBER.findall(sample[side]) for sample, number in asked)
    return Share(named, named / len(asked), wilson(named / len(asked), len(asked), 0.975))


def asked_about(prompt: Sequence[Mapping[str, Any]]) -> str | None:
    """The one order number in what was said last by a person; None where there is none, or several."""
    found = set(ORDER_NUMBER.findall(question(prompt)))
    return found.pop() if len(found) == 1 else None


def question(prompt: Sequence[Mapping[str, Any]]) -> str:
    """What was said last by a person."""
    last: Mapping[str, Any] = next((message for message in reversed(prompt) if message.get("role") == "user"), {})
    return text_of(dict(last)) or ""


def chosen(samples: Sequence[Sample], base: str) -> list[Sample]:
    """Those that are shown (see the rule above), on the base of this name."""
    known = known_languages(base)
    ordered = sorted(samples, key=lambda sample: hashlib.sha256(canonical(sample["prompt"])).digest())
    spoken = [sample for sample in ordered if known is None or language(sample) in known]
    naming = [sample for sample in spoken if asked_about(sample["prompt"])]
    others = [sample for sample in spoken if not asked_about(sample["prompt"])]
    return naming[:NAMING] + others[:OTHERS]


def unknown_languages(samples: Sequence[Sample], base: str) -> list[str]:
    """The English names of the languages of samples that are beyond the base, most samples first."""
    known = known_languages(base)
    found = [language(sample) for sample in samples] if known is not None else []
    beyond = [code for code in found if code is not None and code not in (known or ())]
    return [_NAMES.get(code, code) for code in sorted(set(beyond), key=lambda code: (-beyond.count(code), code))]


def known_languages(base: str) -> tuple[str, ...] | None:
    """ISO 639-1 codes of what the base of this name speaks; None: of that nothing is known."""
    return _KNOWN.get(base.partition("-")[0])


def language(sample: Sample) -> str | None:
    """ISO 639-1 code: by the locale where the event had one."""
    locale = sample.get("locale")
    return re.split("[-_]", locale)[0].lower() if locale else detect_language(question(sample["prompt"]))
