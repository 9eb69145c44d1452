import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, TaskType, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

from models.bases import Base
from models.batches import lay_out
from models.chat import Chat
from models.loading import load_scorer
from models.reward import (
    HEADS,
    Calibration,
    RewardModel,
    bootstrap,
    fit_platt,
    load_reward,
    rewards,
    save_reward,
    sigmoid,
    with_reward_lora,
)
from models.settings import RewardSettings
from models.tiny import fresh_model
from tests.models.conftest import TINY


def test_platt_scaling_finds_the_curve_that_made_the_labels() -> None:
    points = [(x / 4, 1.0, sigmoid(0.5 * x / 4 - 1), 1.0) for x in range(-40, 41)] * 20
    found = fit_platt(points)
    assert found.slope == pytest.approx(0.5, abs=0.01)
    assert found.offset == pytest.approx(-1, abs=0.01)


def test_rewards_without_signal_get_no_slope() -> None:
    found = fit_platt([(x, 1.0, y, 1.0) for x in (-1.0, 1.0) for y in (0.0, 1.0)] * 50)
    assert found.slope == pytest.approx(0, abs=0.01)


def test_without_labels_rewards_stand_as_they_are() -> None:
    assert fit_platt([]) == Calibration(1.0, 0.0)


def test_a_pair_says_nothing_of_the_offset() -> None:
    assert fit_platt([(1.0, 0.0, 0.9, 5.0)]).offset == pytest.approx(0)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(0, 5)), max_size=30)
)
def test_calibration_is_finite_whatever_the_labels(points: list[tuple[float, float, float, float]]) -> None:
    found = fit_platt(points)
    assert math.isfinite(found.slope)
    assert math.isfinite(found.offset)


def test_heads_see_different_bootstraps_of_the_labels() -> None:
    draws = [bootstrap(f"label-{n}") for n in range(3_000)]
    assert draws == [bootstrap(f"label-{n}") for n in range(3_000)]
    assert all(any(heads) for heads in draws)
    for head in range(HEADS):
        assert sum(heads[head] for heads in draws) / len(draws) == pytest.approx(1.05, abs=0.06)
    assert sum(len(set(heads)) > 1 for heads in draws) > 1_500


def test_rewards_keep_their_precision_where_the_model_computes_in_bfloat16() -> None:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    scorer = LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=HEADS))
    model = get_peft_model(scorer, LoraConfig(task_type=TaskType.SEQ_CLS, target_modules="all-linear"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = rewards(model, lay_out([([3, 4, 5], [[6, 7], [8]])], 0))
    assert not torch.equal(found, found.bfloat16().float())


def test_a_reward_model_that_was_kept_scores_as_before(chat: Chat, tmp_path: Path) -> None:
    fresh_model(chat.tokenizer, TINY, 96).save_pretrained(tmp_path / "base")
    base = Base(str(tmp_path / "base"), "tiny-0123456789ab", "r", "t", "c")
    model = with_reward_lora(
        load_scorer(base.path, HEADS, 1, torch.float32), RewardSettings(lora_rank=4, lora_layers=1)
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1)
    before = RewardModel(lambda: model, chat, 96, Calibration(2.0, -0.5))
    (tmp_path / "kept").mkdir()
    save_reward(model, before.calibration, tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "calibration.json",
    ]  # fmt: skip
    after = load_reward(tmp_path / "kept", base, chat, 96)
    rows = [([3, 4, 5], [[6, 7], [8]]), ([3, 4], [[9]])]
    assert after.calibration == before.calibration
    assert after.score(rows) == before.score(rows)
    assert min(after.score(rows).spread) > 0
