"""Which prompts say nearly the same: Jaccard similarity of their word 3-shingles.

MinHash with locality-sensitive hashing (Broder 1997; Indyk and Motwani 1998) proposes candidates, the shingles decide. It
misses about one in eight pairs right at the threshold and hardly any above.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from rensa import RMinHash, RMinHashLSH

from feedback.content import spoken
from feedback.records import Message, Turn

SHINGLE_TOKENS = 3
PERMUTATIONS = 128
SEED = 1
MISS_LESS = 0.9
"""Weight of false negatives for the index, against that of false positives: these cost only the time to check them."""

STEEPEST = 0.95
"""Above this the index has no parameters; it is checked exactly all the same."""

_UNSPACED = (  # Thai and Lao, Burmese, Khmer, kana, Han
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def prompt_key(turn: Turn) -> str:
    """What makes prompts alike: the last user message and the assistant message before it, normalised.

    Not the whole context: in a chat it grows turn by turn, so that two turns would be alike just for being late.
    """
    return context_key(turn.messages)


def context_key(messages: Sequence[Message]) -> str:
    """The `prompt_key` of a turn with these messages."""
    talk = [message for message in messages if message.get("role") in ("user", "assistant")]
    last = max((i for i, message in enumerate(talk) if message["role"] == "user"), default=-1)
    texts = [spoken(message) for message in talk[max(last - 1, 0) : last + 1]]
    if len(texts) == 2 and talk[last - 1]["role"] == "user":
        texts = texts[1:]
    return " ".join(unicodedata.normalize("NFKC", "\n".join(texts)).casefold().split())


@lru_cache(maxsize=4_096)
def shingles(prompt: str) -> frozenset[str]:
    """Runs of three tokens, a token being a word or, in scripts without spaces, a character.

    >>> sorted(shingles("where is my order"))
    ['is my order', 'where is my']
    """
    tokens = _TOKEN.findall(prompt)
    if not tokens:
        return frozenset((prompt,))
    return frozenset(" ".join(tokens[i : i + SHINGLE_TOKENS]) for i in range(max(1, len(tokens) - SHINGLE_TOKENS + 1)))


class NearDuplicates:
    """Of the prompts added so far, the first that a prompt nearly duplicates."""

    def __init__(self, threshold: float) -> None:
        bands, rows = _bands(threshold)
        self._threshold, self._permutations = threshold, bands * rows
        self._index = RMinHashLSH(threshold=threshold, num_perm=bands * rows, num_bands=bands)
        self._added: dict[str, int] = {}
        self._prompts: list[str] = []

    def add(self, prompt: str) -> None:
        """Make a prompt one that others can duplicate."""
        if prompt not in self._added:
            self._index.insert(len(self._prompts), self._sketch(prompt))
            self._added[prompt] = len(self._prompts)
            self._prompts.append(prompt)

    def first_like(self, prompt: str) -> str | None:
        """The prompt itself if it was added, else the first added one that it nearly duplicates."""
        if prompt in self._added:
            return prompt
        mine = shingles(prompt)
        candidates = sorted(self._index.query(self._sketch(prompt)))
        return next((self._prompts[at] for at in candidates if self._jaccard(mine, self._prompts[at])), None)

    def _sketch(self, prompt: str) -> RMinHash:
        return _sketch(prompt, self._permutations)

    def _jaccard(self, one: frozenset[str], prompt: str) -> bool:
        other = shingles(prompt)
        common = len(one & other)
        return common / (len(one) + len(other) - common) >= self._threshold


@lru_cache(maxsize=4)
def _sketch(prompt: str, permutations: int) -> RMinHash:
    """Kept for a moment: who is asked about is added next."""
    sketch = RMinHash(num_perm=permutations, seed=SEED)
    sketch.update(list(shingles(prompt)))
    return sketch


@lru_cache
def _bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many hashes: the fewest misses above the threshold and candidates below it, weighed."""
    wanted = min(threshold, STEEPEST)
    similarity = (np.arange(1_000) + 0.5) / 1_000
    below = similarity < wanted

    def cost(shape: tuple[int, int]) -> float:
        bands, rows = shape
        proposed = 1 - (1 - similarity**rows) ** bands
        return float((1 - MISS_LESS) * proposed[below].sum() + MISS_LESS * (1 - proposed[~below]).sum())

    return min(
        ((bands, rows) for bands in range(1, PERMUTATIONS + 1) for rows in range(1, PERMUTATIONS // bands + 1)),
        key=cost,
    )


__all__ = ["NearDuplicates", "context_key", "prompt_key", "shingles"]
