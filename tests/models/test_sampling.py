import random
from collections import Counter
from collections.abc import Sequence
from copy import copy
from typing import Any

import pytest
import torch

from models import pieces, sampling
from models.ragged import bytes_per_token
from models.sampling import Sampled, _padded, _unpadded, choose_prompts, sample
from tests.models.snapshots import said, turn

TURNS = [turn(n, "gate" if n % 2 else "train", said(f"question {n // 4}"), "x") for n in range(80)]


def test_prompts_are_of_one_split_distinct_and_independent_of_order() -> None:
    chosen = choose_prompts(TURNS, "gate", 10)
    assert len(chosen) == 10
    assert {t.split for t in chosen} == {"gate"}
    assert len({str(t.prompt) for t in chosen}) == 10
    assert choose_prompts(random.Random(0).sample(TURNS, len(TURNS)), "gate", 10) == chosen


def test_the_same_seed_samples_the_same_replies(chat: Any, model: Any) -> None:
    prompts = [chat.prompt(said("Hi"), 50), chat.prompt(said("Where is order 12?"), 50)]
    first = sample(model, chat, prompts, 2, 5, seed=3)
    assert len(first) == 4
    assert sample(model, chat, prompts, 2, 5, seed=3) == first
    assert sample(model, chat, prompts, 2, 5, seed=4) != first


def test_a_sample_says_whether_it_ended_or_was_cut_at_its_limit(chat: Any, model: Any) -> None:
    prompts = [chat.prompt(said("Hi"), 50)]
    found = sample(model, chat, prompts, 200, 3, seed=3)
    cut = [one for one in found if not one.ended]
    assert cut
    ends = copy(chat)
    ends.end_ids = frozenset(range(model.config.vocab_size))  # whatever it says ends its reply
    assert sample(model, ends, prompts, 2, 3, seed=3) == [Sampled("", True)] * 2


def test_replies_are_those_of_transformers(chat: Any, model: Any) -> None:
    prompts = [chat.prompt(said("Hi"), 50), chat.prompt(said("Where is order 12?"), 50)]

    def written(count: int, tokens: int, temperature: float) -> list[list[list[int]]]:
        given = (model, chat, prompts, count, tokens, temperature)
        return [write(*given, torch.Generator().manual_seed(1)) for write in (_unpadded, _padded)]

    ours, theirs = written(1, 6, 0.0)
    assert ours == [ids[: len(ours[n])] for n, ids in enumerate(theirs)]
    ours, theirs = written(400, 1, 0.8)
    common = Counter(ids[0] % 8 for ids in ours) & Counter(ids[0] % 8 for ids in theirs)
    assert common.total() > 0.9 * 800, "as likely as theirs"


def test_at_temperature_zero_chance_has_no_say(chat: Any, model: Any) -> None:
    prompts = [chat.prompt(said("Hi"), 50), chat.prompt(said("Where is order 12?"), 50)]
    assert sample(model, chat, prompts, 1, 8, 3, temperature=0.0) == sample(
        model, chat, prompts, 1, 8, 4, temperature=0.0
    )


def test_as_many_prompts_are_asked_at_once_as_there_is_room_for_and_they_keep_their_order(
    chat: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [chat.prompt(said("Where is order 12?"[: 3 + 2 * n]), 50) for n in range(7)]
    whole = sample(model, chat, prompts, 1, 8, 3, temperature=0.0)
    tokens, seen = 2 * (max(map(len, prompts)) + 8), list[int]()
    monkeypatch.setattr(pieces, "_ROOM_BYTES", 2 * tokens * bytes_per_token(model))

    def watched(model: Any, chat: Any, prompts: Sequence[Any], *given: Any) -> list[list[int]]:
        seen.append(len(prompts))
        return _unpadded(model, chat, prompts, *given)

    monkeypatch.setattr(sampling, "_unpadded", watched)
    assert sample(model, chat, prompts, 1, 8, 3, temperature=0.0) == whole
    assert seen == [2, 2, 2, 1]
    seen.clear()
    assert len(sample(model, chat, prompts, 5, 8, 3)) == 35
    assert seen == [1] * 7
