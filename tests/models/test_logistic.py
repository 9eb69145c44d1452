from __future__ import annotations

import numpy as np
import pytest

from models.logistic import fit_logistic

PRIOR, WEAK = np.array([1.0, 0.0]), np.array([1e-6, 1e-6])


def test_what_made_the_probabilities_is_found_again() -> None:
    x = np.stack([np.linspace(-3, 3, 50), np.ones(50)], axis=1)
    targets = 1 / (1 + np.exp(-(x @ np.array([-2.0, 0.5]))))
    assert fit_logistic(x, targets, np.ones(50), PRIOR, WEAK) == pytest.approx([-2.0, 0.5], abs=1e-4)


def test_an_example_counts_by_its_weight_and_one_of_none_not_at_all() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0], [5.0, 3.0]])
    once = fit_logistic(x[:2], np.array([1.0, 0.0]), np.array([3.0, 1.0]), PRIOR, WEAK)
    assert once == pytest.approx([np.log(3), 0.0], abs=1e-4)
    assert fit_logistic(x, np.array([1.0, 0.0, 1.0]), np.array([3.0, 1.0, 0.0]), PRIOR, WEAK) == pytest.approx(once)


def test_what_nothing_is_known_of_stays_at_its_prior_and_what_can_be_parted_stays_finite() -> None:
    none = np.zeros((0, 2))
    assert list(fit_logistic(none, np.zeros(0), np.zeros(0), PRIOR, WEAK)) == [1.0, 0.0]
    parted = fit_logistic(np.array([[1.0, 0], [-1.0, 0]]), np.array([1.0, 0.0]), np.ones(2), PRIOR, np.full(2, 1e-2))
    assert 1 < parted[0] < 20
