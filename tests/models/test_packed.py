"""Rows in one line have the states that they have in a padded batch."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.batches import _branch_mask, lay_out
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
