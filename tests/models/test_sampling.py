import random
from typing import Any

from models.sampling import choose_prompts, sample
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
