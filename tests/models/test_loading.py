"""How bases come into torch: safely, not training, and the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.bases import Base
from models.loading import load_causal, load_chat, load_scorer, pad_id
from tests.models.snapshots import said


@pytest.fixture(scope="module")
def directory(chat: Any, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in a directory, as one finds them."""
    path = tmp_path_factory.mktemp("loading") / "my-model"
    model.save_pretrained(path)
    chat.tokenizer.save_pretrained(path)
    return path


def test_a_base_answers_as_what_was_saved_and_is_not_training(directory: Path, model: Any) -> None:
    loaded, ids = load_causal(directory), torch.tensor([[5, 6, 7]])
    assert not loaded.training
    with torch.no_grad():
        logits = loaded(ids.to(loaded.device)).logits.float().cpu()
        assert torch.allclose(logits, model(ids).logits, atol=1e-5 if loaded.dtype == torch.float32 else 0.1)


def test_its_tokenizer_reads_as_the_one_that_was_saved(directory: Path, chat: Any) -> None:
    loaded = load_chat(Base(str(directory), "my-model", "r", "0" * 64, "1" * 64))
    assert loaded.prompt(said("Where is order 12?"), 50) == chat.prompt(said("Where is order 12?"), 50)
    assert loaded.end_ids == chat.end_ids


def test_weights_that_are_pickled_are_not_loaded(directory: Path, model: Any, tmp_path: Path) -> None:
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_causal(tmp_path)


def test_a_base_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError), match="gone"):
        load_causal(tmp_path / "gone")


def test_reward_heads_are_as_many_as_asked_and_the_same_for_the_same_seed(directory: Path) -> None:
    one, same, other = (load_scorer(directory, 3, seed).score.weight for seed in (1, 1, 2))
    assert one.shape[0] == 3
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len({tuple(head.tolist()) for head in one}) == 3


def test_rows_are_filled_up_with_what_ends_a_reply_where_there_is_no_padding(chat: Any) -> None:
    assert pad_id(chat) == chat.tokenizer.pad_token_id
    bare: Any = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=None), end_ids=frozenset({7}))
    assert pad_id(bare) == 7
