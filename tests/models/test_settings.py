"""What a setting leaves open is decided by the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.bases import Base
from models.policy import choose_examples, train_policy
from models.reward import train_reward
from models.settings import PolicySettings, RewardSettings
from models.snapshot import SnapshotData
from models.tiny import fresh_model
from tests.models.conftest import TINY
from tests.models.snapshots import pair, said

TINY_BASE = Base("", "tiny-0123456789ab", "r", "t", "c")


def test_what_was_trained_here_learns_at_the_rate_of_tiny_and_what_was_pretrained_at_a_lower_one() -> None:
    others = [
        msgspec.structs.replace(TINY_BASE, name=name) for name in ("smollm2-0123456789ab", "org/tiny-chat", "tiny")
    ]
    assert TINY_BASE.tiny
    assert not any(base.tiny for base in others)
    for settings in (RewardSettings(), PolicySettings()):
        assert settings.rate(tiny=True) == 1e-3
        assert settings.rate(tiny=False) < 1e-3
    assert PolicySettings().reply_tokens(tiny=False) > PolicySettings().reply_tokens(tiny=True) == 48


def test_what_somebody_sets_is_taken_on_any_base() -> None:
    for tiny in (True, False):
        assert RewardSettings(learning_rate=0.5).rate(tiny) == PolicySettings(learning_rate=0.5).rate(tiny) == 0.5
        assert PolicySettings(sample_tokens=7).reply_tokens(tiny) == 7


@pytest.mark.parametrize(("name", "tiny"), [("tiny-0123456789ab", True), ("smollm2-0123456789ab", False)])
def test_both_trainings_take_their_rate_from_the_base(
    name: str, tiny: bool, chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_model(chat.tokenizer, TINY, 96).save_pretrained(tmp_path / "base")
    base = msgspec.structs.replace(TINY_BASE, path=str(tmp_path / "base"), name=name)
    rates: list[float] = []
    for module in ("policy", "reward"):
        monkeypatch.setattr(f"models.{module}.train", lambda *_, learning_rate, **__: rates.append(learning_rate))
    data = SnapshotData("s", "", [pair(n, "train", said("a"), "good", "bad") for n in range(2)], [], [], [])
    examples = choose_examples(data, [], 9)
    train_policy(base, chat, examples, PolicySettings(), 96, tmp_path, lambda step, of: None)
    train_reward(data, base, chat, RewardSettings(), 96, tmp_path, lambda step, of: None)
    assert rates == [PolicySettings().rate(tiny), RewardSettings().rate(tiny)]
