"""Each loss against figures worked out by hand."""

import math

import pytest
import torch

from models import losses


def log(x: float) -> float:
    return math.log(x)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bradley_terry_is_the_cross_entropy_of_the_margin() -> None:
    loss = losses.bradley_terry(
        torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0])
    )
    assert loss.item() == pytest.approx((-log(sigmoid(2)) - log(sigmoid(-1))) / 2)


def test_bradley_terry_weighs_pairs_and_takes_soft_labels() -> None:
    loss = losses.bradley_terry(
        torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.75, 1.0]), torch.tensor([1.0, 0.0])
    )
    assert loss.item() == pytest.approx((-0.75 * log(sigmoid(2)) - 0.25 * log(sigmoid(-2))) / 2)


def test_an_even_preference_is_best_predicted_by_equal_rewards() -> None:
    margin = torch.zeros(1, requires_grad=True)
    losses.bradley_terry(margin, torch.zeros(1), torch.tensor([0.5]), torch.ones(1)).backward()
    assert margin.grad is not None
    assert margin.grad.item() == 0


def test_every_head_of_a_reward_model_has_weights_of_its_own() -> None:
    chosen = torch.tensor([[1.0, -1.0]])
    loss = losses.bradley_terry(chosen, torch.zeros(1, 2), torch.ones(1), torch.tensor([[2.0, 0.0]]))
    assert loss.item() == pytest.approx(-2 * log(sigmoid(1)) / 2)


def test_logistic_takes_the_probability_that_a_reply_is_wanted() -> None:
    loss = losses.logistic(torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.25]), torch.tensor([1.0, 3.0]))
    second = -0.25 * log(sigmoid(-2)) - 0.75 * log(sigmoid(2))
    assert loss.item() == pytest.approx((-log(sigmoid(1)) + 3 * second) / 2)


def test_dpo_compares_how_far_both_replies_moved_from_the_reference() -> None:
    loss = losses.dpo(*_one(-3.0, -6.0, -4.0, -5.0), torch.ones(1), torch.ones(1), beta=0.5)
    assert loss.item() == pytest.approx(-log(sigmoid(0.5 * (1 - -1))))


def test_dpo_with_a_soft_label_is_the_expectation_over_both_orders() -> None:
    loss = losses.dpo(*_one(-3.0, -6.0, -4.0, -5.0), torch.tensor([0.7]), torch.tensor([2.0]), beta=0.5)
    assert loss.item() == pytest.approx(2 * (-0.7 * log(sigmoid(1)) - 0.3 * log(sigmoid(-1))))


def test_kto_measures_gain_against_the_kl_of_mismatched_replies() -> None:
    loss = losses.kto(
        torch.tensor([-2.0, -3.0]), torch.tensor([-4.0, -3.0]), torch.tensor([-5.0, -7.0]), torch.tensor([-6.0, -7.0]),
        torch.tensor([1.0, 0.0]), torch.ones(2), beta=1.0,
    )  # fmt: skip
    z0 = 0.5
    assert loss.item() == pytest.approx(((1 - sigmoid(2 - z0)) + (1 - sigmoid(-(0 - z0)))) / 2)


def test_kto_weighs_what_is_wanted_and_what_is_not_and_a_soft_label_by_both() -> None:
    same = torch.zeros(3)
    weights, desirable = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 0.25])
    loss = losses.kto(same, same, same, same, desirable, weights, 0.1, wanted=3.0, unwanted=0.5)
    assert loss.item() == pytest.approx((3 + 0.5 + 2 * (0.25 * 3 + 0.75 * 0.5)) / 2 / 3)


def test_ktos_point_of_reference_is_never_negative_and_has_no_gradient() -> None:
    mismatched = torch.tensor([-9.0], requires_grad=True)
    logps = torch.tensor([-2.0], requires_grad=True)
    loss = losses.kto(logps, torch.tensor([-2.0]), mismatched, torch.tensor([-1.0]), torch.ones(1), torch.ones(1), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert mismatched.grad is None
    assert logps.grad is not None


def test_sft_is_the_weighted_negative_log_likelihood_per_token() -> None:
    loss = losses.sft(torch.tensor([-4.0, -6.0]), torch.tensor([2, 3]), torch.tensor([1.0, 0.5]))
    assert loss.item() == pytest.approx((4 + 3) / 5)


def _one(a: float, b: float, c: float, d: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.tensor([a]), torch.tensor([b]), torch.tensor([c]), torch.tensor([d])
