"""A fresh LoRA on a base: on all linear layers but the output, in all of its layers or in the last ones."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model

from models.weights import layer_of


def with_lora(model: Any, task: TaskType, rank: int, last: int | None, seed: int) -> Any:
    """`model`, wrapped by peft, with a LoRA of this rank in its `last` layers (None, or more than it has: in all).

    What lies below the first adapted layer needs neither a gradient nor memory for one.
    """
    torch.manual_seed(seed)
    layers = adapted_layers(model.config.num_hidden_layers, last)
    config = LoraConfig(
        task_type=task,
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear" if layers is None else _linear_in(model, layers),
    )
    return get_peft_model(model, config)


def adapted_layers(layers: int, last: int | None) -> list[int] | None:
    """The numbers of the `last` of so many layers; None where those are all.

    >>> adapted_layers(4, 2)
    [2, 3]
    """
    return None if last is None or last >= layers else list(range(layers - last, layers))


def _linear_in(model: Any, layers: list[int]) -> list[str]:
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [name for name in linear if (found := layer_of(name)) is not None and found in layers]
