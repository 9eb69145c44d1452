"""What changed, told by a rule that never looks at a reply, and counted over all prompts that name an order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from deploy.replay.compared import (
    NAMING,
    OTHERS,
    asked_about,
    chosen,
    language,
    order_numbers,
    unknown_languages,
)

SMOL, TINY = "smollm2-0123456789ab", "tiny-0123456789ab"


def sample(text: str, candidate: str = "", incumbent: str = "", locale: str | None = "en-GB") -> dict[str, Any]:
    prompt = [{"role": "user", "content": text}]
    return {"prompt": prompt, "locale": locale, "candidate": candidate, "incumbent": incumbent}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Where is my order K-472?", "K-472"),
        ("早上好，我从周二起就在等K-63。", "K-63"),
        ("请问订单K-63什么时候送到？", "K-63"),
        ("K-12 or K-13?", None),
        ("K-12, yes: K-12.", "K-12"),
        ("I want COVID-19 masks", None),
        ("a K-1 race", None),
        ("", None),
    ],
)
def test_the_order_that_is_asked_about_is_the_one_that_the_last_question_names(text: str, number: str | None) -> None:
    before = [{"role": "user", "content": "K-99?"}, {"role": "assistant", "content": "K-98."}]
    assert asked_about([*before, {"role": "user", "content": text}]) == number


def test_a_question_in_parts_is_read_and_a_picture_names_nothing() -> None:
    parts = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "K-47?"}]
    assert asked_about([{"role": "user", "content": parts}]) == "K-47"
    assert asked_about([{"role": "user", "content": [{"type": "image_url"}]}]) is None
    assert asked_about([]) is None


def test_a_longer_number_is_another_number_and_every_share_has_its_interval() -> None:
    told = [sample("K-47?", "K-47 [K-47]", "K-471"), sample("K-48?", "K-47, K-48", "nothing"), sample("Hello", "K-1")]
    found = order_numbers(told)
    assert found is not None
    assert (found.prompts, found.candidate.named, found.incumbent.named) == (2, 2, 0)
    assert found.candidate.interval == pytest.approx((0.342, 1.0), abs=1e-3)
    assert order_numbers([sample("Hello")]) is None
    assert order_numbers([]) is None


def test_the_same_prompts_are_shown_in_any_order_and_whatever_was_replied() -> None:
    told = [sample(f"Where is K-{n}?", f"reply {n}") for n in range(10, 30)] + [sample(f"Hello {n}") for n in range(9)]
    shown = [one["prompt"] for one in chosen(told, SMOL)]
    assert len(shown) == NAMING + OTHERS
    assert [asked_about(prompt) is not None for prompt in shown] == [True] * NAMING + [False] * OTHERS
    random.Random(1).shuffle(told)
    others = [one | {"candidate": "K-10", "incumbent": "K-11"} for one in told]
    assert [one["prompt"] for one in chosen(others, SMOL)] == shown


def test_what_is_shown_is_in_a_language_that_the_base_knows_and_the_others_are_named() -> None:
    told = [sample("¿K-10?", locale="es_MX"), sample("K-11?"), sample("K-12?", locale="de-DE")]
    told += [sample("K-13?", locale="de-AT"), sample("K-14?", locale="tlh")]
    assert [one["prompt"][0]["content"] for one in chosen(told, SMOL)] == ["K-11?"]
    assert unknown_languages(told, SMOL) == ["German", "Spanish", "tlh"]
    assert len(chosen(told, TINY)) == NAMING
    assert unknown_languages(told, TINY) == []


def test_without_a_locale_the_language_is_that_of_the_question() -> None:
    assert language(sample("Where is my order? I have been waiting for it since Tuesday.", locale=None)) == "en"
    assert language(sample("Wo bleibt meine Bestellung? Ich warte schon seit letztem Dienstag.", locale=None)) == "de"
    assert language(sample("K-47?", locale=None)) is None
    assert unknown_languages([sample("K-47?", locale=None)], SMOL) == []
