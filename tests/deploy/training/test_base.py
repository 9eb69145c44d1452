"""Which base is taken where no setting names one: a rule chooses once, and everybody in the state directory goes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.settings import Settings
from deploy.state import State, open_state
from deploy.training.base import (
    BASES,
    QUICK,
    Choice,
    choose_base,
    note_base,
    noted_base,
    quickly,
    sentence,
    with_noted_base,
)
from models.settings import BaseModelSettings, PolicySettings, RewardSettings

NONE_NAMED = Settings()
NAMED = Settings(base=BaseModelSettings(name="/models/mine"))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state")


def test_a_fresh_state_directory_takes_smollm2_where_the_processor_has_bf16(state: State) -> None:
    assert choose_base(NONE_NAMED, state, None, bf16=True) == Choice("smollm2", "default")
    assert choose_base(NONE_NAMED, state, None, bf16=False) == Choice("tiny", "processor")


@pytest.mark.parametrize("bf16", [True, False])
def test_what_is_asked_for_is_taken_and_what_a_setting_names_before_that(state: State, bf16: bool) -> None:
    note_base(state.root, "smollm2")
    assert choose_base(NONE_NAMED, state, None, bf16) == Choice("smollm2", "note")
    assert choose_base(NONE_NAMED, state, "tiny", bf16) == Choice("tiny", "option")
    assert choose_base(NAMED, state, "tiny", bf16) == Choice("/models/mine", "setting")
    assert choose_base(NAMED, state, None, bf16) == Choice("/models/mine", "setting")


def test_a_state_directory_that_has_a_tiny_base_keeps_it(state: State) -> None:
    (state.root / "bases" / "tiny-of-0123456789ab.json").write_text("{}")
    assert choose_base(NONE_NAMED, state, None, bf16=True) == Choice("tiny", "note")


def test_every_command_goes_by_the_noted_base_and_by_nothing_else_of_the_note(state: State) -> None:
    assert with_noted_base(NONE_NAMED, state.root) == NONE_NAMED
    note_base(state.root, "smollm2")
    found = with_noted_base(NONE_NAMED, state.root)
    assert found.base.name == "smollm2"
    assert found.model_dump(exclude={"base"}) == NONE_NAMED.model_dump(exclude={"base"})
    assert with_noted_base(NAMED, state.root) == NAMED


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"base": "/etc"}', b'{"base": {}}', b"\xff"])
def test_a_damaged_note_is_none(state: State, damage: bytes) -> None:
    (state.root / "bases" / "chosen.json").write_bytes(damage)
    assert noted_base(state.root) is None


def test_a_short_training_leaves_alone_what_somebody_has_set() -> None:
    mine = Settings(reward=RewardSettings(epochs=3), policy=PolicySettings(sample_tokens=12, beta=0.2))
    found = quickly(mine)
    assert (found.reward.epochs, found.reward.max_labels) == (3, QUICK["reward"]["max_labels"])
    assert (found.policy.sample_tokens, found.policy.beta) == (12, 0.2)
    assert found.policy.best_of_prompts == QUICK["policy"]["best_of_prompts"]


def test_what_is_short_is_short_of_something() -> None:
    full: Any = Settings()
    for section, values in QUICK.items():
        for key, value in values.items():
            assert value != getattr(getattr(full, section), key), f"{section}.{key}"


@pytest.mark.parametrize("name", BASES)
def test_who_replays_is_told_which_base_and_what_it_is_for(name: str) -> None:
    told = sentence(Choice(name, "option"), quickly(NONE_NAMED), bf16=True) or ""
    assert ("for tests" in told) == (name == "tiny")
    assert ("Apache-2.0; 93 MB" in told) == (name == "smollm2")
    slow = sentence(Choice(name, "option"), NONE_NAMED, bf16=False) or ""
    assert ("it takes long" in slow) == (name == "smollm2")
    assert "has no bf16" in (sentence(Choice("tiny", "processor"), NONE_NAMED, bf16=False) or "")
    assert sentence(Choice("/models/mine", "setting"), NONE_NAMED, bf16=True) is None
