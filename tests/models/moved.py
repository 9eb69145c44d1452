"""A policy that has moved off its base."""

from __future__ import annotations

from typing import Any


def moved_policy(chat: Any) -> Any:
    """An untrained tiny base with an adapter that changes what it says."""
    from models.policy import with_policy_lora
    from models.settings import PolicySettings
    from models.tiny import fresh_model
    from tests.models.conftest import TINY

    model = with_policy_lora(fresh_model(chat.tokenizer, TINY, 96), PolicySettings(lora_rank=4))
    move(model, 0.05)
    return model


def move(model: Any, by: float) -> None:
    """Change what the adapter of this model does, the same way each time."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=by)
