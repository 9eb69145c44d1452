from typing import cast

import pytest

from models.best_of import Scored, best_and_worst, length_trend, reward_pairs
from models.reward import RewardModel
from models.settings import PolicySettings


def replies(*rewards_and_lengths: tuple[float, int]) -> list[Scored]:
    return [Scored(f"reply {n}", r, 0.0, length) for n, (r, length) in enumerate(rewards_and_lengths)]


def test_the_best_and_the_worst_sample_make_a_pair() -> None:
    found = best_and_worst(replies((0, 5), (2, 5), (-2, 5)), trend=0.0, slope=1.0)
    assert found is not None
    assert found[:2] == ("reply 1", "reply 2")
    assert found[2] == pytest.approx(0.982, abs=1e-3)


def test_a_reward_model_without_signal_makes_no_pairs() -> None:
    assert best_and_worst(replies((0, 5), (2, 5)), trend=0.0, slope=0.0) is None


def test_a_reward_that_only_follows_length_makes_no_pairs() -> None:
    group = replies((1, 10), (2, 20), (4, 40))
    trend = length_trend([group])
    assert trend == pytest.approx(0.1)
    assert best_and_worst(group, trend, slope=1.0) is None


def test_what_the_heads_disagree_on_is_not_chosen_as_best() -> None:
    group = [Scored("sure", 1.0, 0.1, 5), Scored("unsure", 1.2, 2.0, 5), Scored("bad", -3.0, 0.1, 5)]
    found = best_and_worst(group, trend=0.0, slope=1.0)
    assert found is not None
    assert found[:2] == ("sure", "bad")


def test_empty_and_equal_samples_make_no_pairs() -> None:
    assert best_and_worst([Scored(" ", -9, 0, 1), Scored("same", 0, 0, 1), Scored("same", 0, 0, 1)], 0.0, 1.0) is None


def test_where_nothing_was_sampled_there_are_no_pairs_and_nobody_is_asked() -> None:
    assert reward_pairs([], cast(RewardModel, None), PolicySettings(best_of=0), other_weight=1.0) == []
