"""Probes: which exchanges they are, what is recorded of them, and that the record tells the candidate from others."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
import torch
from peft.tuners.lora import LoraLayer

from models.bases import Base
from models.fixed_probes import EXCHANGES
from models.loading import pad_id
from models.policy import with_policy_lora
from models.probes import TOKENS, Probe, choose_probes, encode_probe, report_probes, score
from models.proof import UNIT, NotProven, Proven, Record, damage, powers, prove
from models.settings import PolicySettings
from tests.models.conftest import TINY
from tests.models.snapshots import said, turn

HELLO = Probe(said("Where is order 12?"), "I have looked up order 12.")
THANKS = Probe(said("Thank you!"), "You are welcome, and have a very nice day.")
BASE = Base("somewhere", "tiny-0123456789ab", "r" * 64, "t" * 64, "c" * 64)
FIXED = {reply for _, reply in EXCHANGES}


def words(text: str) -> int:
    return len(text.split())


def own(probes: list[Probe]) -> list[str]:
    return [probe.reply for probe in probes if probe.reply not in FIXED]


def test_half_of_the_tokens_are_of_the_gate_split_the_same_in_any_order() -> None:
    turns = [turn(n, "gate" if n % 2 else "train", said(f"question {n}"), f"reply {n} " * 20) for n in range(60)]
    probes = choose_probes(turns, words)
    assert len(own(probes)) == TOKENS // 2 // 40
    assert all(int(reply.split()[1]) % 2 for reply in own(probes))
    assert choose_probes(random.Random(1).sample(turns, len(turns)), words) == probes
    fixed = sum(words(probe.reply) for probe in probes if probe.reply in FIXED)
    assert TOKENS // 2 <= fixed < TOKENS // 2 + 48


def test_a_reply_longer_than_is_scored_counts_for_what_is_scored() -> None:
    turns = [turn(n, "gate", said(f"question {n}"), f"reply {n} " * 500) for n in range(60)]
    assert len(own(choose_probes(turns, words))) == TOKENS // 2 // 48


@pytest.mark.parametrize("turns", [[], [turn(1, "train", said("a"), "b")], [turn(1, "gate", said("a"), " ")]])
def test_where_nothing_can_be_probed_fixed_exchanges_are(turns: list[Any]) -> None:
    probes = choose_probes(turns, lambda text: len(text.encode()) // 3)
    assert {probe.reply for probe in probes} <= FIXED
    assert sum(len(probe.reply.encode()) // 3 for probe in probes) > TOKENS - 48


def test_short_replies_are_filled_up_with_fixed_ones() -> None:
    turns = [turn(n, "gate", said(f"question {n}"), "yes") for n in range(60)]
    replies = [probe.reply for probe in choose_probes(turns, words)]
    assert replies.count("yes") == 24
    assert set(replies) == {"yes"} | FIXED


def test_a_long_exchange_is_scored_in_part_so_that_a_record_stays_small(chat: Any) -> None:
    prompt, (reply,) = encode_probe(
        chat, Probe(said("where is it? " * 900), "I have looked up the order. " * 90), 8_000
    )
    assert len(reply) == 48
    assert len(prompt) <= 256 - 48


def test_a_token_is_scored_as_the_model_gives_it_whatever_is_scored_beside_it(chat: Any, model: Any) -> None:
    rows = [encode_probe(chat, probe, 96) for probe in (HELLO, THANKS, HELLO)]
    prompt, (reply,) = rows[0]
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *reply]])).logits[0].log_softmax(-1)
    tokens = [float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(reply)]
    first, second, third = score(model, rows, pad_id(chat))
    assert first == third == pytest.approx(tokens, abs=1e-5)
    assert second == pytest.approx(score(model, rows[1:2], pad_id(chat))[0], abs=1e-5)


def test_a_model_that_was_training_is_asked_without_dropout(chat: Any, model: Any) -> None:
    rows = [encode_probe(chat, HELLO, 96)]
    model.train()
    try:
        assert score(model, rows, pad_id(chat)) == score(model.eval(), rows, pad_id(chat))
        assert not model.training
    finally:
        model.eval()


def adapted(chat: Any, seed: int = 1) -> Any:
    """A fresh base that is sure of what it says, with an adapter `default` that changes it."""
    from models.tiny import fresh_model

    base = fresh_model(chat.tokenizer, TINY, 96)
    with torch.no_grad():
        base.get_output_embeddings().weight.mul_(20)
    model = with_policy_lora(base, PolicySettings(lora_rank=4, seed=seed))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    return model.eval()


@pytest.fixture(scope="module")
def probed(chat: Any) -> dict[str, Any]:
    return report_probes(adapted(chat), "default", "d" * 64, BASE, chat, choose_probes([], words), 96)


@pytest.fixture(scope="module")
def record(probed: dict[str, Any]) -> Record:
    return msgspec.convert(json.loads(json.dumps(probed["record"])), Record)


def test_the_report_keeps_for_people_what_it_kept_before(probed: dict[str, Any], record: Record) -> None:
    assert probed["max_length"] == 96
    differences = [abs(item["base_logprob"] - item["candidate_logprob"]) for item in probed["items"]]
    assert probed["largest_difference"] == max(differences) > 0.01
    first = probed["items"][0]
    assert (first["messages"], first["reply"]) == (said(EXCHANGES[0][0]), EXCHANGES[0][1])
    assert first["candidate_logprob"] == pytest.approx(sum(record.probes[0].candidate) / len(record.probes[0].reply))


def test_a_record_is_whole_small_and_says_of_whom_it_is(chat: Any, record: Record) -> None:
    assert damage(record) is None
    assert (record.digest, record.base_name, record.base_revision) == ("d" * 64, BASE.name, BASE.revision)
    assert len(json.dumps(msgspec.to_builtins(record))) < 100_000
    assert record.probes[0].prompt == encode_probe(chat, Probe(said(EXCHANGES[0][0]), EXCHANGES[0][1]), 96)[0]
    kinds = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(record.effects) == {"layer 0", "layer 1"} | kinds
    assert 1e-4 < record.noise < record.limits.noise


def scores(model: Any, record: Record, chat: Any) -> tuple[Any, Any]:
    rows = [(probe.prompt, [probe.reply]) for probe in record.probes]
    candidate = score(model, rows, pad_id(chat))
    with model.disable_adapter():
        return score(model, rows, pad_id(chat)), candidate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_record_proves_the_adapter_and_no_other_in_float32_and_in_bfloat16(
    chat: Any, record: Record, dtype: torch.dtype
) -> None:
    proof = prove(record, *scores(adapted(chat).to(dtype), record, chat))
    assert isinstance(proof, Proven)
    assert proof.strength == pytest.approx(1.0, abs=0.05)
    other = prove(record, *scores(adapted(chat, seed=2).to(dtype), record, chat))
    assert isinstance(other, NotProven)
    for part in ("layers.0.", "layers.1.", "gate_proj"):
        partial = adapted(chat)
        for name, weight in partial.named_parameters():
            if "lora_B" in name and part in name:
                weight.data.zero_()
        assert isinstance(prove(record, *scores(partial.to(dtype), record, chat)), NotProven)


def test_an_effect_is_what_the_part_does_to_each_token(chat: Any, record: Record) -> None:
    model = adapted(chat)
    for name, weight in model.named_parameters():
        if "lora_B" in name and "layers.1." in name:
            weight.data.zero_()
    rest = [value for part in scores(model, record, chat)[1] for value in part]
    whole = [value for probe in record.probes for value in probe.candidate]
    effect = [UNIT * value for value in record.effects["layer 1"]]
    assert effect == pytest.approx([a - b for a, b in zip(whole, rest, strict=True)], abs=2e-5)
    assert powers(record)["layer 1"] > record.limits.power


def test_measuring_leaves_the_adapters_strength_as_it_was(chat: Any) -> None:
    model = adapted(chat)
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    report_probes(model, "default", "d" * 64, BASE, chat, [HELLO], 96)
    assert {layer.scaling["default"] for layer in layers} == {2.0}
