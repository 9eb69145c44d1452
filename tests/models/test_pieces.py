"""Batches in pieces: the same losses and gradients as of the whole, in memory that does not grow with the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models import batches, pieces
from models.batches import Row, hidden_states, lay_out
from models.lengths import encode
from models.loading import pad_id
from models.pieces import split, tokens_at_once
from models.policy import policy_loss, tensors
from models.reward import batch_of, bootstrap, reward_loss
from models.tiny import fresh_model
from tests.models.conftest import TINY
from tests.models.moved import moved_policy
from tests.models.snapshots import common, pair, said, thumb

ROWS: list[Row] = [([5] * n, [[6] * (1 + n % 3), [7] * (2 + n % 4)]) for n in range(1, 13)]
LONG = "Where is order 12? I have been waiting for it since Monday."


@pytest.fixture
def adapted(chat: Any) -> Any:
    """A policy that has moved off its base, in training."""
    return moved_policy(chat).train()


def narrow(monkeypatch: pytest.MonkeyPatch, model: Any, tokens: int) -> None:
    """Leave room for so many tokens' activations, and for logits of three."""
    backbone = model.get_base_model().model
    monkeypatch.setattr(pieces, "_ROOM_BYTES", tokens * (pieces._ROOM_BYTES // tokens_at_once(backbone) + 1))
    monkeypatch.setattr(batches, "_LOGITS", 3 * backbone.config.vocab_size)
    assert tokens_at_once(backbone) == tokens


def gradients(model: Any, loss: Callable[[], torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    value = loss()
    value.backward()
    return value.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(model: Any, loss: Callable[[], torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, expected = gradients(model, loss)
    narrow(monkeypatch, model, 40)
    value, found = gradients(model, loss)
    assert value == pytest.approx(whole, rel=1e-5)
    assert expected.keys() == found.keys()
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name


def examples(kind: str) -> list[Any]:
    """Eight of different lengths and weights."""
    from feedback.records import Demonstration

    prompts = [said(LONG[: 3 + 7 * n]) for n in range(8)]
    if kind == "dpo":
        return [pair(n, "train", prompt, LONG[: 20 - n], "no " * n + "idea") for n, prompt in enumerate(prompts)]
    if kind == "kto":
        return [thumb(n, "train", prompt, LONG[: 5 + 2 * n], n % 3 > 0) for n, prompt in enumerate(prompts)]
    labelled = [common(n, "train") | {"weight": 0.5 + n / 8} for n in range(8)]
    return [Demonstration(id=f"d{n}", prompt=p, reply=LONG[: 5 + 3 * n], **labelled[n]) for n, p in enumerate(prompts)]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
def test_a_policys_batch_in_pieces_has_the_loss_and_the_gradients_of_the_whole(
    chat: Any, adapted: Any, monkeypatch: pytest.MonkeyPatch, kind: Any, share: bool
) -> None:
    batch = tensors(chat, kind, examples(kind), 96, share)
    assert_same(adapted, lambda: policy_loss(adapted, batch, 0.1, 1.0), monkeypatch)


def test_a_reward_models_batch_in_pieces_has_the_loss_and_the_gradients_of_the_whole(
    chat: Any, scorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, labels = examples("dpo"), examples("kto")
    rows = [encode(chat, x.prompt, [x.chosen, x.rejected], 96) for x in pairs]
    rows += [encode(chat, x.prompt, [x.reply], 96) for x in labels]
    batch = batch_of([*pairs, *labels], rows, pad_id(chat), True, bootstrap)
    assert_same(scorer, lambda: reward_loss(scorer, batch), monkeypatch)


@pytest.fixture
def scorer(chat: Any, tmp_path: Any) -> Any:
    """A fresh reward model, in training."""
    from models.loading import load_scorer
    from models.reward import HEADS, with_reward_lora
    from models.settings import RewardSettings

    fresh_model(chat.tokenizer, TINY, 96).save_pretrained(tmp_path)
    return with_reward_lora(load_scorer(tmp_path, HEADS, 1, torch.float32), RewardSettings(lora_rank=4)).train()


def test_no_pass_of_the_model_has_more_tokens_than_there_is_room_for_but_for_one_long_row(
    adapted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    backbone = adapted.get_base_model().model
    backbone.register_forward_pre_hook(
        lambda _, __, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    narrow(monkeypatch, adapted, 40)
    batch = lay_out([*ROWS, ([5] * 60, [[6], [7]])], 0)
    hidden_states(adapted, batch, "predictors")
    assert sum(width for _, width in seen) == int(batch["used"].sum()), "rows lie in one, without padding"
    assert all(width <= 20 or width == 62 for _, width in seen)
    assert len(seen) < len(ROWS)


def test_layers_are_computed_twice_only_where_there_is_no_room_to_keep_what_they_computed(
    adapted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    backbone = adapted.get_base_model().model
    backbone.layers[0].mlp.register_forward_pre_hook(lambda _, given: calls.append(given[0].shape[:2].numel()))
    batch = lay_out(ROWS, 0)

    def computed() -> int:
        calls.clear()
        hidden_states(adapted, batch, "ends").sum().backward()
        return sum(calls)

    tokens = int(batch["used"].sum())
    assert computed() == tokens
    kept = sum(int(piece["used"].sum()) for piece in split(batch, "ends", 40)[:2])
    narrow(monkeypatch, adapted, 80)
    assert computed() == tokens + (tokens - kept)


def test_pieces_hold_every_row_once_with_its_neighbours_in_length() -> None:
    batch = lay_out(ROWS, 0)
    found = split(batch, "ends", 30)
    assert sorted(int(n) for piece in found for n in piece["places"]) == list(range(2 * len(ROWS)))
    widths = [piece["ids"].shape[1] for piece in found]
    assert widths == sorted(widths)
    for piece in found:
        assert torch.equal(
            piece["ids"].flatten()[piece["ends"]], batch["ids"].flatten()[batch["ends"][piece["places"]]]
        )


def test_what_needs_no_gradient_is_computed_once(adapted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch, adapted, 40)
    with torch.no_grad():
        found = hidden_states(adapted, lay_out(ROWS, 0), "ends")
    assert not found.requires_grad
    assert not any(getattr(module, "gradient_checkpointing", False) for module in adapted.modules())
