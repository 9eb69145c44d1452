"""Rows in one line have the states that they have in a padded batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from models.batches import _SHARING, _branch_mask, can_share, lay_out
from models.packed import packed_states, visible

IDS = st.lists(st.integers(5, 90), min_size=1, max_size=9)
ROWS = st.lists(st.tuples(IDS, st.lists(IDS, min_size=1, max_size=3)), min_size=1, max_size=4)


@given(ROWS)
def test_rows_in_one_line_have_the_states_of_the_padded_batch(model: Any, rows: Any) -> None:
    batch = lay_out(rows, 0)
    segments = batch.get("segments")
    mask = None if segments is None else _branch_mask(segments, torch.float32)
    with torch.no_grad():
        found = packed_states(model.model, batch, "predictors")
        output = model.model(
            input_ids=batch["ids"], position_ids=batch["positions"], attention_mask=mask, use_cache=False
        )
    padded = output.last_hidden_state.flatten(0, 1)[batch["predictors"]]
    assert torch.allclose(found, padded, atol=1e-5)


def test_only_real_tokens_are_computed(model: Any) -> None:
    seen: list[int] = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:2].numel()))
    with torch.no_grad():
        packed_states(model.model, lay_out([([5] * 30, [[6]]), ([5], [[6]])], 0), "ends")
    hook.remove()
    assert seen == [33]


def test_a_reply_sees_the_prompt_and_itself_and_never_what_comes() -> None:
    assert visible(torch.tensor([0, 1, 1, 2])).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 1],
    ]


@pytest.mark.parametrize("kind", sorted(_SHARING))
def test_every_architecture_that_shares_prompts_attends_row_by_row(kind: str) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config.sliding_window, config.layer_types = None, ["full_attention"] * 2
    torch.manual_seed(0)
    small = AutoModelForCausalLM.from_config(config).eval()
    assert can_share(small)
    batch = lay_out([([5, 6, 7], [[8, 9], [10]]), ([11], [[12, 13, 14, 15]])], 0)
    with torch.no_grad():
        found = packed_states(small.model, batch, "predictors")
        mask = _branch_mask(batch["segments"], torch.float32)
        output = small.model(
            input_ids=batch["ids"], position_ids=batch["positions"], attention_mask=mask, use_cache=False
        )
    padded = output.last_hidden_state.flatten(0, 1)[batch["predictors"]]
    assert torch.allclose(found, padded, atol=1e-5)
