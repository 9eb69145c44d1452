"""Which turns a snapshot is made of: not too alike, and not too many of one person or language or in all.

In two steps, so that a window of millions needs few texts: `candidates` applies every cap that needs none, with twice the
room; `select` looks at the candidates' prompts and applies the caps again. Every choice is a function of the set of
turns: samples are bottom-k by the digest of the turn id, and nothing looks at the value of a hashed user id. What people
rated stays before what was judged before what nobody spoke of.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from feedback.content import CUT_REASONS
from feedback.dataset.census import SPLITS, Census, Column, Rows
from feedback.dataset.near_duplicates import NearDuplicates
from feedback.records import PreferencePair, UnpairedLabel
from feedback.settings import WindowSettings

Drop = Literal["like_gate", "near_duplicate", "user_cap", "locale_cap", "window_full"]
"""Why a turn that may be learned from is not in the window: a train prompt that nearly duplicates a rare gate prompt which
people rated; enough of such prompts; enough of that user; of that locale; enough in all."""

RATED, SPOKEN_OF, NEITHER = 0, 1, 2
"""How a turn stands: rated by people, judged or otherwise spoken of, neither."""

FEW_PEOPLE = 5
"""What more people asked is common: it stays in train as in gate, else a gate's many questions would leave little to learn
from."""

ROOM_BEFORE_TEXTS = 2
"""Of so many times a window's size the texts are compared; what then falls out leaves a window full, as a rule."""

GATE, TRAIN = SPLITS.index("gate"), SPLITS.index("train")


@dataclass(frozen=True)
class Window:
    """The turns that are in, in the order of their lots, and how many are out by reason."""

    rows: Rows
    dropped: Counter[Drop]


def candidates(census: Census, standing: Column, settings: WindowSettings) -> Window:
    """What may be in the window, as far as can be told without texts; `standing` is one of RATED, SPOKEN_OF, NEITHER."""
    cut = [at for at, reason in enumerate(census.reasons) if reason in CUT_REASONS]
    spoken_of = np.isin(census.reason, cut) & (standing != NEITHER)
    rows = np.flatnonzero((census.reason == census.reasons.index(None)) | spoken_of)
    rows = rows[np.lexsort((census.lot[rows], standing[rows]))]
    dropped: Counter[Drop] = Counter()
    prompts = _numbered(census.prompt[rows]) * len(SPLITS) + census.split[rows]
    rows = _few_of_each(prompts, rows, settings.max_per_prompt, "near_duplicate", dropped)
    return Window(_capped(census, rows, settings, ROOM_BEFORE_TEXTS, dropped), dropped)


def select(
    census: Census, before: Window, standing: Column, prompts: Sequence[str], settings: WindowSettings
) -> Window:
    """The window, of its candidates and their prompt keys."""
    dropped = Counter(before.dropped)
    splits = census.split[before.rows].tolist()
    kept = _few_alike(splits, prompts, settings.near_duplicate, settings.max_per_prompt)
    dropped["near_duplicate"] += len(before.rows) - len(kept)
    judging = {prompts[at] for at in kept if splits[at] == GATE and standing[before.rows[at]] == RATED}
    rare = _rare(census, judging, dict(zip(prompts, before.rows.tolist(), strict=True)), settings.near_duplicate)
    unlike = [at for at in kept if splits[at] != TRAIN or prompts[at] not in rare]
    dropped["like_gate"] += len(kept) - len(unlike)
    return Window(_capped(census, before.rows[unlike], settings, 1, dropped), +dropped)


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


def _few_alike(splits: Sequence[int], prompts: Sequence[str], threshold: float, most: int) -> list[int]:
    """At most `most` places per group of near-duplicates, within each split: those that come first."""
    kept = []
    for split in sorted(set(splits)):
        alike = NearDuplicates(threshold)
        leaders: dict[str, str] = {}
        sizes: Counter[str] = Counter()
        for at, prompt in enumerate(prompts):
            if splits[at] != split:
                continue
            if prompt not in leaders:
                leader = alike.first_like(prompt)
                if leader is None:
                    leader = prompt
                    alike.add(prompt)
                leaders[prompt] = leader
            sizes[leaders[prompt]] += 1
            if sizes[leaders[prompt]] <= most:
                kept.append(at)
    return sorted(kept)


def _rare(census: Census, judging: Iterable[str], row_of: Mapping[str, int], threshold: float) -> set[str]:
    """Of the prompts, each with a row where it stands, those that nearly duplicate one of `judging` which few people asked."""
    judged, alike = NearDuplicates(threshold), defaultdict[str, list[str]](list)
    for prompt in sorted(judging):
        judged.add(prompt)
    for prompt in row_of:
        if (leader := judged.first_like(prompt)) is not None:
            alike[leader].append(prompt)
    by_prompt = np.argsort(census.prompt, kind="stable") if alike else np.empty(0, dtype=np.intp)
    asked = census.prompt[by_prompt]

    def people(prompt: str) -> set[int]:
        digest = census.prompt[row_of[prompt]]
        first, last = np.searchsorted(asked, digest, "left"), np.searchsorted(asked, digest, "right")
        return set(census.person[by_prompt[first:last]].tolist())

    few = (prompts for prompts in alike.values() if len(set().union(*map(people, prompts))) <= FEW_PEOPLE)
    return {prompt for prompts in few for prompt in prompts}


def _capped(census: Census, rows: Rows, settings: WindowSettings, times: int, dropped: Counter[Drop]) -> Rows:
    """No more of one user, of one locale where there are several (so that the others find a place in a full window), and in
    all than `times` what the settings say."""
    rows = _few_of_each(census.person[rows], rows, times * settings.max_per_user, "user_cap", dropped)
    locales = census.locale[rows]
    if len(np.unique(locales)) > 1:
        room = max(int(settings.max_exchanges * settings.max_locale_share), 1)
        rows = _few_of_each(locales, rows, times * room, "locale_cap", dropped)
    dropped["window_full"] += max(len(rows) - times * settings.max_exchanges, 0)
    return rows[: times * settings.max_exchanges]


def _few_of_each(groups: Column, rows: Rows, most: int, reason: Drop, dropped: Counter[Drop]) -> Rows:
    """The first `most` rows of each group, in the order in which they come."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order][:1]) != 0)
    begins = np.zeros(len(rows), dtype=np.intp)
    begins[starts] = starts
    rank = np.arange(len(rows)) - np.maximum.accumulate(begins)
    kept = np.empty(len(rows), dtype=bool)
    kept[order] = rank < most
    dropped[reason] += len(rows) - int(kept.sum())
    return rows[kept]


def _numbered(values: Column) -> Column:
    return np.unique(values, return_inverse=True)[1]
