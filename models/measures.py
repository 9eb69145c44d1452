"""The figures of a report, as pure functions of numbers and texts. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

_BINS = 10
_MIN_LETTERS = 12
_SURE = 0.5


def calibration_error(probabilities: Sequence[float], outcomes: Sequence[float]) -> float | None:
    """Expected calibration error over ten equal bins of probability (Guo et al. 2017, arXiv 1706.04599, eq. 3).

    >>> calibration_error([0.9, 0.9], [1.0, 0.0])
    0.4
    """
    bins: dict[int, list[tuple[float, float]]] = {}
    for probability, outcome in zip(probabilities, outcomes, strict=True):
        bins.setdefault(min(int(probability * _BINS), _BINS - 1), []).append((probability, outcome))
    if not bins:
        return None
    gaps = (abs(sum(p - o for p, o in members)) for members in bins.values())
    return round(sum(gaps) / len(probabilities), 12)


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one side does not vary.

    >>> correlation([1, 2, 3], [2, 4, 6])
    1.0
    """
    if len(a) < 2:
        return None
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    cross = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    scale = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    return round(max(-1.0, min(1.0, cross / scale)), 12) if scale else None


def median_of_cut(lengths: Sequence[int], ended: Sequence[bool]) -> float | None:
    """The median, where what has not `ended` is longer than all that has; at least so many once half of them is so.

    >>> median_of_cut([3, 9, 48], [True, True, False]), median_of_cut([48, 9, 48], [False, True, False])
    (9.0, 48.0)
    """
    ordered = [n for _, n in sorted(zip((not e for e in ended), lengths, strict=True))]
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2 if ordered else None


def repetition(text: str) -> float:
    """Share of a text's word 3-grams that occurred in it before; 0 where it has fewer than two.

    >>> repetition("a b c a b c")
    0.25
    """
    words = text.split()
    grams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def language_match(prompt: str, locale: str | None, reply: str) -> bool | None:
    """Whether the reply is in the locale's language, else in the prompt's; None where a text is too short to tell."""
    expected = locale.replace("_", "-").split("-")[0].lower() if locale else detect_language(prompt)
    found = detect_language(reply)
    return None if expected is None or found is None else expected == found


def detect_language(text: str) -> str | None:
    """ISO 639-1 code of the text's language; None where that can't be told with confidence."""
    if sum(character.isalpha() for character in text) < _MIN_LETTERS:
        return None
    language, probability = _identifier().classify(text)
    return str(language) if probability >= _SURE else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
