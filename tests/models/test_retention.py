"""How far a candidate went from its base, and what it forgot."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.batches import lay_out
from models.facts import Fact
from models.policy import with_policy_lora
from models.retention import compare_facts, mean_kl, measure_retention
from models.sampling import Sampled
from models.settings import PolicySettings
from models.tiny import fresh_model
from tests.models.conftest import TINY
from tests.models.moved import move
from tests.models.snapshots import said


@pytest.fixture
def adapted(chat: Any) -> Any:
    return with_policy_lora(fresh_model(chat.tokenizer, TINY, 96), PolicySettings(lora_rank=4)).eval()


def rows(chat: Any) -> list[Any]:
    return [
        (chat.prompt(said(q), 50), [chat.reply(a, 40)])
        for q, a in (("Hi", "Hello you"), ("Where is it?", "On its way"))
    ]


def test_who_learned_nothing_has_gone_nowhere(chat: Any, adapted: Any) -> None:
    assert mean_kl(adapted, rows(chat), 0) == pytest.approx(0, abs=1e-6)


def test_the_distance_is_the_mean_kl_of_the_next_token_over_the_replies(chat: Any, adapted: Any) -> None:
    move(adapted, 0.3)
    batch = lay_out(rows(chat), 0)

    def logps() -> Any:
        hidden = adapted(input_ids=batch["ids"], position_ids=batch["positions"]).logits
        return hidden.flatten(0, 1)[batch["predictors"]].log_softmax(-1)

    with torch.no_grad():
        ours = logps()
        with adapted.disable_adapter():
            theirs = logps()
    expected = float((ours.exp() * (ours - theirs)).sum(-1).mean())
    assert expected > 0.01
    assert mean_kl(adapted, rows(chat), 0) == pytest.approx(expected, rel=1e-4)


def test_who_went_farther_is_farther(chat: Any, adapted: Any) -> None:
    found = []
    for by in (0.02, 0.2):
        move(adapted, by)
        found.append(measure_retention(adapted, chat, [(said("Hi"), Sampled("Hello", False))], 96))
    near, far = found
    assert 0 < near.neutral_kl < far.neutral_kl
    assert 0 < (near.gate_kl or 0) < (far.gate_kl or 0)
    assert measure_retention(adapted, chat, [], 96).gate_kl is None


def test_facts_are_lost_and_gained_by_name() -> None:
    facts = [Fact("one", "1?", ("1",)), Fact("two", "2?", ("2",)), Fact("three", "3?", ("3",))]
    found = compare_facts(facts, ["1", "2", "x"], ["1", "y", "3"])
    assert (found.asked, found.base_right, found.candidate_right) == (3, 2, 2)
    assert (found.lost, found.gained) == (["two"], ["three"])
    assert found.said == "of 3 fixed questions the base answers 2 rightly, the candidate 2"


def test_a_base_that_knows_nothing_is_said_to() -> None:
    found = compare_facts([Fact("one", "1?", ("1",))], ["x"], ["y"])
    assert found.said.startswith("this base knows none of the fixed questions")


def test_a_context_next_to_nothing_has_room_for_an_answer_all_the_same(chat: Any, adapted: Any) -> None:
    assert measure_retention(adapted, chat, [], 33).neutral_kl >= 0
