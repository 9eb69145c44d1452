"""Probes: which exchanges they are, and that their numbers depend on nothing but model and text."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from models.probes import Probe, choose_probes, mean_logprobs
from tests.models.snapshots import said, turn

HELLO = Probe(said("Where is order 12?"), "I have looked up order 12.")
THANKS = Probe(said("Thank you!"), "You are welcome, and have a very nice day.")


def test_probes_are_of_the_gate_split_and_the_same_in_any_order() -> None:
    turns = [turn(n, "gate" if n % 2 else "train", said(f"question {n}"), f"reply {n}") for n in range(60)]
    probes = choose_probes(turns)
    assert len(probes) == 8
    assert all(int(probe.reply.split()[1]) % 2 for probe in probes)
    assert choose_probes(random.Random(1).sample(turns, len(turns))) == probes


@pytest.mark.parametrize("turns", [[], [turn(1, "train", said("a"), "b")], [turn(1, "gate", said("a"), " ")]])
def test_where_nothing_can_be_probed_two_fixed_exchanges_are(turns: list[Any]) -> None:
    assert [probe.reply for probe in choose_probes(turns)] == ["Of course, how can I help?", "You are welcome."]


def test_a_probes_number_is_the_mean_over_its_replys_tokens(chat: Any, model: Any) -> None:
    reply = chat.reply(HELLO.reply, 48)
    prompt = chat.prompt(HELLO.messages, 96 - len(reply))
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *reply]])).logits[0].log_softmax(-1)
    tokens = [float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(reply)]
    assert mean_logprobs(model, chat, [HELLO], 96) == pytest.approx([sum(tokens) / len(reply)], abs=1e-5)


def test_a_probes_number_does_not_depend_on_its_neighbours_to_the_last_digit(chat: Any, model: Any) -> None:
    together = mean_logprobs(model, chat, [HELLO, THANKS, HELLO], 96)
    assert together == [mean_logprobs(model, chat, [probe], 96)[0] for probe in (HELLO, THANKS, HELLO)]


def test_a_model_that_was_training_is_asked_without_dropout(chat: Any, model: Any) -> None:
    model.train()
    try:
        assert mean_logprobs(model, chat, [HELLO], 96) == mean_logprobs(model.eval(), chat, [HELLO], 96)
        assert not model.training
    finally:
        model.eval()
