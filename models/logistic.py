"""Weighted logistic regression with a prior, for the few numbers that rewards are turned into probabilities by. No torch."""

from __future__ import annotations

import numpy as np

_STEPS = 50


def fit_logistic(
    x: np.ndarray, targets: np.ndarray, weights: np.ndarray, prior: np.ndarray, ridge: np.ndarray
) -> np.ndarray:
    """Coefficients [k] of the columns of `x` [n, k] that predict the probabilities `targets` [n], by damped Newton steps.

    `ridge` [k] pulls each towards its `prior` [k], from where the steps begin: with no weight to speak of, that is the answer.
    """
    found = prior.copy()
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ found, -30, 30)))
        slope = x.T @ (weights * (p - targets)) + ridge * (found - prior)
        curvature = (x * (weights * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        found = found - step / max(1.0, float(np.abs(step).max()))  # damped where the curvature is nearly flat
    return found
