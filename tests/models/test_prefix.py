"""Passes that begin where something changed: the same numbers, and the layers before are not computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from models.batches import lay_out, reply_logps
from models.loading import pad_id
from models.policy import with_policy_lora
from models.prefix import Prefix, beside_base, prefix_of
from models.probes import Probe, encode_probe, score
from models.settings import PolicySettings
from models.tiny import fresh_model
from tests.models.conftest import TINY
from tests.models.moved import move
from tests.models.snapshots import said
from tests.models.test_probes import adapted

PROBES = [Probe(said(f"Where is order {n}?"), f"I have looked up order {n}. " * (n % 3 + 1)) for n in range(20)]


def adapted_modules(model: Any) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@pytest.mark.parametrize("layer", [0, 1])
def test_a_pass_that_begins_where_something_changed_ends_as_one_from_the_start(chat: Any, layer: int) -> None:
    model = adapted(chat)
    rows = [encode_probe(chat, probe, 96) for probe in PROBES]
    prefix = prefix_of(model, list(adapted_modules(model)))
    with prefix.kept(every=True):
        whole = score(model, rows, pad_id(chat))
    computed = list[int]()
    for number, each in enumerate(model.get_base_model().model.layers):
        each.mlp.register_forward_hook(lambda *_, number=number: computed.append(number))
    for name, module in adapted_modules(model).items():
        if f".layers.{layer}." in name:
            module.scaling["default"] = 0.0
    from_start = score(model, rows, pad_id(chat))
    passes = computed.count(0)
    computed.clear()
    for _ in range(2):
        with prefix.begun_at(layer):
            assert score(model, rows, pad_id(chat)) == from_start != whole
    assert passes > 1
    assert computed.count(layer) == 2 * passes
    assert min(computed) == layer
    computed.clear()
    assert score(model, rows, pad_id(chat)) == from_start, "it is as it was"
    assert computed.count(0) == passes


def test_a_model_without_a_plain_list_of_layers_computes_all_of_them(chat: Any) -> None:
    model = adapted(chat)
    two_towers = [f"base_model.model.{tower}.layers.0.q_proj" for tower in ("encoder", "decoder")]
    assert prefix_of(model, two_towers)._layers == []
    assert prefix_of(model, ["base_model.model.lm_head"])._layers == []
    prefix, hidden = Prefix([], 0), torch.ones(2)
    with prefix.kept(), prefix.begun_at(3):
        assert torch.equal(nn.Identity()(hidden), hidden)


@pytest.mark.parametrize("last", [None, 1])
def test_beside_a_policy_its_base_is_computed_from_the_first_adapted_layer_on(chat: Any, last: int | None) -> None:
    model = with_policy_lora(fresh_model(chat.tokenizer, TINY, 96), PolicySettings(lora_rank=4, lora_layers=last))
    move(model, 0.05)
    batch = lay_out([encode_probe(chat, probe, 96) for probe in PROBES], pad_id(chat))
    computed = list[int]()
    for number, each in enumerate(model.get_base_model().model.layers):
        each.mlp.register_forward_hook(lambda *_, number=number: computed.append(number))
    ours, base = beside_base(model, lambda: reply_logps(model, batch))
    assert computed.count(0) == (2 if last is None else 1)
    assert computed.count(1) == 2
    assert ours.requires_grad
    assert not base.requires_grad
    with torch.no_grad():
        assert torch.equal(ours, reply_logps(model, batch))
        assert torch.equal(base, reply_logps(model.unload(), batch))
    assert not torch.allclose(ours, base, atol=1e-3)
