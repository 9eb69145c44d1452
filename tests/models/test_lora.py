"""Which layers a fresh LoRA adapts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import TaskType
from peft.tuners.lora import LoraLayer

from models.lora import adapted_layers, with_lora
from models.tiny import fresh_model
from models.weights import layer_of
from tests.models.conftest import TINY


def adapted(chat: Any, last: int | None) -> dict[str, LoraLayer]:
    model = with_lora(fresh_model(chat.tokenizer, TINY, 96), TaskType.CAUSAL_LM, 4, last, 0)
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@pytest.mark.parametrize("last", [None, TINY.layers, 99])
def test_all_layers_are_adapted_but_for_the_output(chat: Any, last: int | None) -> None:
    modules = adapted(chat, last)
    assert {layer_of(name) for name in modules} == set(range(TINY.layers))
    assert not [name for name in modules if "lm_head" in name]


def test_of_the_last_layers_every_linear_module_is_adapted_and_nothing_below(chat: Any) -> None:
    modules = adapted(chat, 1)
    assert {layer_of(name) for name in modules} == {TINY.layers - 1}
    assert len(modules) * TINY.layers == len(adapted(chat, None))


@given(st.integers(1, 40), st.integers(1, 60))
def test_the_last_layers_are_so_many_or_all(layers: int, last: int) -> None:
    found = adapted_layers(layers, last)
    assert (found or list(range(layers))) == list(range(layers))[-last:]
    assert (found is None) == (last >= layers)
