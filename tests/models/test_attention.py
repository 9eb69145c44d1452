"""Attention written out, or with a group's queries as one head's, is torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.attention import attend, attending_by
from models.packed import visible

SCALE = 0.3


def states(heads: int, tokens: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(1, heads, tokens, 8, generator=torch.Generator().manual_seed(heads + tokens)).to(dtype)


def torchs_own(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """In float32, with keys and values repeated for their group."""
    groups = query.shape[1] // keys.shape[1]
    repeated = (each.float().repeat_interleave(groups, 1) for each in (keys, values))
    return scaled_dot_product_attention(query.float(), *repeated, mask, scale=SCALE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("tokens", [1, 7, 500])
def test_it_attends_as_torch_does(dtype: torch.dtype, heads: int, tokens: int) -> None:
    query, keys, values = states(heads, tokens, dtype), states(2, tokens + 3, dtype), states(2, tokens + 3, dtype)
    mask = None if tokens == 1 else torch.ones(tokens, tokens + 3, dtype=torch.bool).tril(3)
    found = attend(query, keys, values, mask, SCALE)
    assert (found.shape, found.dtype) == (query.shape, dtype)
    off = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(found.float(), torchs_own(query, keys, values, mask), atol=off)


def test_its_gradient_in_bfloat16_is_torchs_own_as_far_as_that_can_tell() -> None:
    parts = [states(heads, 9, torch.bfloat16).requires_grad_() for heads in (6, 2, 2)]
    mask = visible(torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    attend(parts[0], parts[1], parts[2], mask, SCALE).float().square().sum().backward()
    found = [part.grad for part in parts]
    exact = [part.detach().float().requires_grad_() for part in parts]
    torchs_own(exact[0], exact[1], exact[2], mask).square().sum().backward()
    for ours, theirs in zip(found, (part.grad for part in exact), strict=True):
        assert ours is not None
        assert theirs is not None
        assert (ours.float() - theirs).norm() < 0.02 * theirs.norm()


def test_a_model_attends_as_before_also_after_a_failure() -> None:
    class Config:
        _attn_implementation = "sdpa"

    def fail() -> None:
        with attending_by("other", Config):
            assert Config._attn_implementation == "other"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert Config._attn_implementation == "sdpa"
