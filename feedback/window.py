"""Which exchanges a snapshot is made of: young enough, not too alike, and not too many of one person or language.

Works on light keys, one per exchange, so that a window of millions needs no texts in memory but the prompts' last
messages. Every choice is a function of the set of keys: near-duplicates go in (`occurred_at_us`, `turn_id`) order, samples
are bottom-k by a hash of the turn id, and nothing looks at the value of a hashed user id. What people rated stays
before what was judged before what nobody spoke of.
"""

from __future__ import annotations

import heapq
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Literal, get_args

import xxhash
from datasketch import MinHash, MinHashLSH
from msgspec import Struct

from feedback.content import text_of
from feedback.exchanges import TurnKey, is_rated
from feedback.records import Exchange, PreferencePair, Split, Turn, UnpairedLabel
from feedback.settings import WindowSettings
from feedback.splits import split_of

Drop = Literal["too_old", "like_gate", "near_duplicate", "user_cap", "locale_cap", "window_full"]
"""Why an exchange is not in the window: its age; a train prompt that nearly duplicates a gate prompt; enough of such
prompts; enough of that user; of that locale; enough in all."""

SHINGLE_TOKENS = 3
PERMUTATIONS = 128
MISS_LESS = (0.1, 0.9)
"""Weights of false positives and negatives for the index: candidates are checked exactly, so false ones cost only time."""

STEEPEST = 0.95
"""Above this the index has no parameters; it is checked exactly all the same."""

_UNSPACED = (  # Thai and Lao, Burmese, Khmer, kana, Han
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


class WindowKey(Struct, frozen=True):
    """All that the window wants to know of an exchange."""

    turn: TurnKey
    occurred_at_us: int
    split: Split
    locale: str | None
    person: tuple[str, ...]
    """Whose turn it is; equal or not, its value never matters."""
    standing: int
    """0 rated by people, 1 judged or otherwise spoken of, 2 neither."""
    prompt: str
    """The prompt key, see `prompt_key`."""


class Window(Struct, frozen=True):
    """The exchanges that are in, and how many are out by reason."""

    kept: frozenset[TurnKey]
    dropped: dict[Drop, int]


def key_of(exchange: Exchange) -> WindowKey:
    """The key of an exchange whose turn is trainable."""
    turn = exchange.turn
    return WindowKey(
        turn=(turn.tenant, turn.turn_id),
        occurred_at_us=turn.occurred_at_us,
        split=split_of(turn.bucket),
        locale=turn.locale,
        person=(turn.tenant, "user", turn.user_id) if turn.user_id else (turn.tenant, "in", turn.conversation_id),
        standing=0 if is_rated(exchange) else 1 if exchange.verdicts or exchange.ratings else 2,
        prompt=prompt_key(turn),
    )


def prompt_key(turn: Turn) -> str:
    """What makes prompts alike: the last user message and the assistant message before it, normalised.

    Not the whole context: in a chat it grows turn by turn, so that two turns would be alike just for being late.
    """
    spoken = [message for message in turn.messages if message.get("role") in ("user", "assistant")]
    last = max((i for i, message in enumerate(spoken) if message["role"] == "user"), default=-1)
    texts = [text_of(message) or "" for message in spoken[max(last - 1, 0) : last + 1]]
    if len(texts) == 2 and spoken[last - 1]["role"] == "user":
        texts = texts[1:]
    return " ".join(unicodedata.normalize("NFKC", "\n".join(texts)).casefold().split())


def select(keys: Iterable[WindowKey], as_of_us: int, settings: WindowSettings) -> Window:
    """The window as of a moment. Steps in order: age, likeness to gate prompts, near-duplicates, users, locales, size."""
    oldest_us = as_of_us - settings.max_age_s * 1_000_000
    locale_room = int(settings.max_exchanges * settings.max_locale_share)
    steps: tuple[tuple[Drop, Callable[[list[WindowKey]], list[WindowKey]]], ...] = (
        ("too_old", lambda kept: [key for key in kept if key.occurred_at_us >= oldest_us]),
        ("like_gate", lambda kept: _unlike_gate(kept, settings.near_duplicate)),
        ("near_duplicate", lambda kept: _few_alike(kept, settings.near_duplicate, settings.max_per_prompt)),
        ("user_cap", lambda kept: _sample_by(lambda key: key.person, kept, settings.max_per_user)),
        ("locale_cap", lambda kept: _sample_locales(kept, locale_room)),
        ("window_full", lambda kept: _sample(kept, settings.max_exchanges)),
    )
    kept = list(keys)
    dropped: dict[Drop, int] = {}
    for reason, step in steps:
        left = step(kept)
        if len(left) < len(kept):
            dropped[reason] = len(kept) - len(left)
        kept = left
    return Window(frozenset(key.turn for key in kept), dropped)


def beyond_judge_share(labels: Iterable[PreferencePair | UnpairedLabel], share: float) -> frozenset[str]:
    """Ids of the judge's labels that are more than `share` of all; none where people gave no label.

    A label's id is a hash of its question, so the smallest ids are a fair sample.
    """
    judged, people, all_ = [], 0, 0
    for label in labels:
        all_ += 1
        people += label.provenance.source in ("expert", "user")
        if label.provenance.source == "judge":
            judged.append(label.id)
    if not people or share >= 1:
        return frozenset()
    room = math.floor((all_ - len(judged)) * share / (1 - share) + 1e-9)
    return frozenset(sorted(judged)[room:])


class NearDuplicates:
    """Of the prompts added so far, the first that a prompt nearly duplicates (Jaccard similarity of word 3-shingles).

    MinHash LSH (Broder 1997; Indyk and Motwani 1998) proposes candidates, the shingles decide. It misses about one in
    eight pairs right at the threshold and hardly any above.
    """

    def __init__(self, prompts: Iterable[str], threshold: float) -> None:
        """`prompts` are all that will be asked about or added: they are hashed in bulk."""
        self._threshold = threshold
        self._shingles = {prompt: shingles(prompt) for prompt in prompts}
        sketches = MinHash.generator(
            ([shingle.encode() for shingle in self._shingles[prompt]] for prompt in self._shingles),
            num_perm=PERMUTATIONS,
            hashfunc=xxhash.xxh32_intdigest,
        )
        self._sketches = dict(zip(self._shingles, sketches, strict=True))
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=_bands(threshold))
        self._added: dict[str, int] = {}

    def add(self, prompt: str) -> None:
        """Make a prompt one that others can duplicate."""
        if prompt not in self._added:
            self._added[prompt] = len(self._added)
            self._index.insert(prompt, self._sketches[prompt])

    def first_like(self, prompt: str) -> str | None:
        """The prompt itself if it was added, else the first added one that it nearly duplicates."""
        if prompt in self._added:
            return prompt
        alike = [other for other in self._index.query(self._sketches[prompt]) if self._jaccard(prompt, other)]
        return min(alike, key=self._added.__getitem__, default=None)

    def _jaccard(self, a: str, b: str) -> bool:
        one, other = self._shingles[a], self._shingles[b]
        common = len(one & other)
        return common / (len(one) + len(other) - common) >= self._threshold


@lru_cache
def _bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many hashes the index has; found by a search that is worth doing once."""
    index = MinHashLSH(threshold=min(threshold, STEEPEST), num_perm=PERMUTATIONS, weights=MISS_LESS)
    return index.b, index.r


def shingles(prompt: str) -> frozenset[str]:
    """Runs of three tokens, a token being a word or, in scripts without spaces, a character.

    >>> sorted(shingles("where is my order"))
    ['is my order', 'where is my']
    """
    tokens = _TOKEN.findall(prompt)
    if not tokens:
        return frozenset((prompt,))
    return frozenset(" ".join(tokens[i : i + SHINGLE_TOKENS]) for i in range(max(1, len(tokens) - SHINGLE_TOKENS + 1)))


def _unlike_gate(keys: list[WindowKey], threshold: float) -> list[WindowKey]:
    alike = NearDuplicates((key.prompt for key in keys if key.split != "calibrate"), threshold)
    for key in keys:
        if key.split == "gate":
            alike.add(key.prompt)
    return [key for key in keys if key.split != "train" or alike.first_like(key.prompt) is None]


def _few_alike(keys: list[WindowKey], threshold: float, most: int) -> list[WindowKey]:
    """At most `most` exchanges per group of near-duplicates, within each split: the first, labelled ones before others."""
    kept = []
    for split in get_args(Split):
        mine = sorted((key for key in keys if key.split == split), key=_first_come)
        alike = NearDuplicates((key.prompt for key in mine), threshold)
        sizes: Counter[str] = Counter()
        for key in mine:
            leader = alike.first_like(key.prompt)
            if leader is None:
                leader = key.prompt
                alike.add(leader)
            sizes[leader] += 1
            if sizes[leader] <= most:
                kept.append(key)
    return kept


def _sample_locales(keys: list[WindowKey], room: int) -> list[WindowKey]:
    """Where there are several locales none takes more than `room`, so that the others find a place in a full window."""
    if len({key.locale for key in keys}) < 2:
        return keys
    return _sample_by(lambda key: key.locale, keys, room)


def _sample_by(group: Callable[[WindowKey], Hashable], keys: list[WindowKey], most: int) -> list[WindowKey]:
    groups: defaultdict[Hashable, list[WindowKey]] = defaultdict(list)
    for key in keys:
        groups[group(key)].append(key)
    return [key for members in groups.values() for key in _sample(members, most)]


def _sample(keys: list[WindowKey], most: int) -> list[WindowKey]:
    """Bottom-k by a hash of the turn id, labelled ones before others: the same k whatever else comes and goes."""
    return keys if len(keys) <= most else heapq.nsmallest(most, keys, key=_lot)


def _lot(key: WindowKey) -> tuple[int, int, TurnKey]:
    return key.standing, xxhash.xxh3_64_intdigest("\0".join(key.turn).encode()), key.turn


def _first_come(key: WindowKey) -> tuple[int, int, str, str]:
    tenant, turn_id = key.turn
    return key.standing, key.occurred_at_us, turn_id, tenant
