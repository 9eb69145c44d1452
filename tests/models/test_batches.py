from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.batches import Row, can_share, lay_out, lay_out_text, plan_batches, plan_by_tokens, reply_logps

ROWS: list[Row] = [([5, 6, 7], [[8, 9], [10, 11, 12]]), ([5, 9, 9, 9, 9], [[7], [6, 5]])]


def naive_logp(model: Any, prompt: list[int], reply: list[int]) -> float:
    """One reply by itself, from the model's full logits."""
    logits = model(torch.tensor([[*prompt, *reply]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(reply))


@pytest.mark.parametrize("share", [True, False])
def test_replies_that_share_a_prompt_score_as_if_each_stood_alone(model: Any, share: bool) -> None:
    with torch.no_grad():
        found = reply_logps(model, lay_out(ROWS, 0, share)).tolist()
        alone = [naive_logp(model, list(p), list(r)) for p, replies in ROWS for r in replies]
    assert found == pytest.approx(alone, abs=1e-4)


def test_a_batch_of_single_replies_needs_no_mask(model: Any) -> None:
    rows: list[Row] = [([5, 6, 7], [[8, 9]]), ([5], [[7, 7, 7]])]
    batch = lay_out(rows, 0)
    assert "segments" not in batch
    with torch.no_grad():
        alone = [naive_logp(model, list(p), list(replies[0])) for p, replies in rows]
        assert reply_logps(model, batch).tolist() == pytest.approx(alone, abs=1e-4)


def test_a_llama_shares_prompts_and_a_sliding_window_does_not(model: Any) -> None:
    assert can_share(model)
    model.config.sliding_window = 16
    try:
        assert not can_share(model)
    finally:
        del model.config.sliding_window


def test_in_running_text_only_targets_are_predicted(model: Any) -> None:
    batch = lay_out_text([[([5, 6], False), ([7, 8], True), ([9], False)], [([5], False), ([6], True)]], 0)
    with torch.no_grad():
        found = reply_logps(model, batch).tolist()
        assert found == pytest.approx([naive_logp(model, [5, 6], [7, 8]), naive_logp(model, [5], [6])], abs=1e-4)
    assert batch["lengths"].tolist() == [2, 1]


@given(st.lists(st.integers(1, 50), max_size=80), st.integers(1, 9), st.integers(0, 3), st.integers(1, 3))
def test_every_example_is_in_one_batch_per_epoch(lengths: list[int], size: int, seed: int, epochs: int) -> None:
    plan = plan_batches(lengths, size, seed, epochs)
    assert sorted(n for batch in plan for n in batch) == sorted([*range(len(lengths))] * epochs)
    assert all(0 < len(batch) <= size for batch in plan)
    assert plan == plan_batches(lengths, size, seed, epochs)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(50, 200), st.integers(1, 30))
def test_batches_by_tokens_keep_to_their_size_and_number(lengths: list[int], tokens: int, steps: int) -> None:
    plan = plan_by_tokens(lengths, tokens, steps, seed=0)
    assert len(plan) == steps
    assert all(max(lengths[n] for n in batch) * len(batch) <= tokens for batch in plan)
