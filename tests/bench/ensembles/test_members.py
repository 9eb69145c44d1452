"""Separate LoRAs in one: members share nothing but the base, and what they are not trained on they never see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from bench.ensembles.members import Ensemble, Kind
from models.chat import Chat
from models.loading import pad_id
from models.reward import HEADS, rewards, score_by
from models.settings import RewardSettings
from models.tiny import fresh_model, train_tokenizer
from tests.models.conftest import TINY
from tests.models.snapshots import pair, said, thumb
from tests.models.test_settings import TINY_BASE

RANK = 2
EXAMPLES = [
    *(pair(n, "train", said(f"Where is order {n}?"), f"Order {n} is here.", "No idea.") for n in range(3)),
    *(thumb(n, "train", said(f"Cancel order {n}."), "Done. " * (1 + n % 3), n % 2 == 0) for n in range(6)),
]
ROWS = [([5, 6, 7], [[8, 9], [10]]), ([5, 6], [[11]])]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    return Chat(train_tokenizer([said("Where is order 12? Done. No idea.")], 300, tmp_path_factory.mktemp("t") / "t"))


@pytest.fixture
def make(chat: Chat, tmp_path: Path) -> Any:
    fresh_model(chat.tokenizer, TINY, 96).save_pretrained(tmp_path / "base")
    base = msgspec.structs.replace(TINY_BASE, path=str(tmp_path / "base"))
    settings = RewardSettings(epochs=1, batch_size=4, lora_layers=1)
    return lambda kind: Ensemble(base, kind, settings, 1)


def test_a_member_whose_bootstrap_is_empty_stays_as_it_was(
    make: Any, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = make(Kind(True, RANK, "labels"))
    before = {name: weight.clone() for name, weight in ensemble.model.named_parameters() if weight.requires_grad}
    monkeypatch.setattr(ensemble, "_draw", lambda _: [0.0, 1.0, 0.0])
    ensemble.fit(EXAMPLES, chat, 96, tmp_path / "work")
    after = dict(ensemble.model.named_parameters())
    mine = slice(RANK, 2 * RANK)
    for name, was in before.items():
        moved = after[name] != was
        if "score" in name:
            assert moved.any(dim=1).tolist() == [False, True, False]
        else:
            moved = moved.T if "lora_B" in name else moved
            assert moved[mine].any()
            assert not moved[:RANK].any()
            assert not moved[2 * RANK :].any()


def test_members_that_share_lower_layers_score_as_each_alone(make: Any, chat: Chat) -> None:
    ensemble = make(Kind(True, RANK, "labels"))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in ensemble.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    found = ensemble.score(ROWS, chat)
    assert found.shape == (3, HEADS)
    for member in range(HEADS):
        ensemble._choose(member)
        alone = score_by(rewards, ensemble.model, ROWS, pad_id(chat))[:, member]
        assert torch.allclose(found[:, member], alone, atol=1e-6)
    ensemble._choose(None)
    together = score_by(rewards, ensemble.model, ROWS, pad_id(chat))
    assert not torch.allclose(found, together, atol=1e-3), "members that see all of the LoRA are others"


def test_a_kind_trains_to_the_same_rewards_every_time(make: Any, chat: Chat, tmp_path: Path) -> None:
    def once(kind: Kind, work: str) -> torch.Tensor:
        ensemble = make(kind)
        ensemble.fit(EXAMPLES, chat, 96, tmp_path / work)
        return ensemble.score(ROWS, chat)  # type: ignore[no-any-return]

    for number, kind in enumerate(
        (Kind(True, RANK, "conversations"), Kind(False, RANK, "labels"), Kind(True, RANK, None))
    ):
        assert torch.equal(once(kind, f"{number}a"), once(kind, f"{number}b"))
