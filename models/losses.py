"""The losses, as functions of tensors alone: no model, no batch, nothing to configure.

`*_logps` are sums of token log-probabilities of whole replies, in nats, shape [n]. Weights have shape [n] and scale
each example's loss; the result is the mean over the n examples, a scalar.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid


def bradley_terry(chosen: Tensor, rejected: Tensor, preference: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of "chosen beats rejected" against its probability `preference`.

    Bradley & Terry 1952; as a reward model's loss Christiano et al. 2017 (arXiv 1706.03741, eq. 1, which already has
    soft labels). Rewards may have a further dimension for several heads, [n, heads]; weights then too.
    """
    margin = chosen - rejected
    soft = preference.reshape(-1, *(1,) * (margin.dim() - 1)).expand_as(margin)
    return _mean(binary_cross_entropy_with_logits(margin, soft, reduction="none"), weights)


def logistic(rewards: Tensor, desirable: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of "this reply is wanted" against its probability `desirable`. Shapes as in `bradley_terry`."""
    soft = desirable.reshape(-1, *(1,) * (rewards.dim() - 1)).expand_as(rewards)
    return _mean(binary_cross_entropy_with_logits(rewards, soft, reduction="none"), weights)


def dpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    preference: Tensor,
    weights: Tensor,
    beta: float,
) -> Tensor:
    """Direct preference optimisation, in expectation over the label.

    Rafailov et al. 2023 (arXiv 2305.18290, eq. 7); the soft label is their conservative form (Mitchell 2023,
    "A note on DPO with noisy preferences"): `preference` is the probability that chosen is better.
    """
    margin = beta * ((chosen_logps - reference_chosen_logps) - (rejected_logps - reference_rejected_logps))
    return _mean(-preference * logsigmoid(margin) - (1 - preference) * logsigmoid(-margin), weights)


def kto(
    logps: Tensor,
    reference_logps: Tensor,
    mismatched_logps: Tensor,
    reference_mismatched_logps: Tensor,
    desirable: Tensor,
    weights: Tensor,
    beta: float,
    wanted: float = 1.0,
    unwanted: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation, in expectation over the label.

    Ethayarajh et al. 2024 (arXiv 2402.01306, eq. 8). The point of reference z0 is the batch's KL estimate, from each
    prompt with another prompt's reply (`mismatched`), not below zero and without gradient. `wanted` and `unwanted` are
    λ_D and λ_U, which make up for there being more of one kind.
    """
    z0 = (mismatched_logps - reference_mismatched_logps).mean().clamp(min=0).detach()
    gain = beta * (logps - reference_logps - z0)
    good, bad = wanted * desirable, unwanted * (1 - desirable)
    return _mean(good * (1 - torch.sigmoid(gain)) + bad * (1 - torch.sigmoid(-gain)), weights)


def sft(logps: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """Negative log-likelihood per token: weighted sums over replies, divided by all tokens of the batch."""
    return -(weights * logps).sum() / lengths.sum().clamp(min=1)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights.reshape(*weights.shape, *(1,) * (values.dim() - weights.dim()))).mean()
