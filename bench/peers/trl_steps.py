"""TRL's training steps on our weights and batches. TRL has its defaults (its fused output head included), LoRA as ours,
the reference by switching the adapter off, dropout 0; where the base is in bfloat16, its automatic mixed precision too.

Needs TRL: pip install -r requirements-bench.lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]
from peft import TaskType, get_peft_model_state_dict, set_peft_model_state_dict
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from bench.peers.steps import BETA, LIKELIHOOD, OURS, Side, lora, our_dpo, our_reward, stepper
from models.batches import Row
from models.loading import load_causal, load_scorer, training_dtype

disable_progress_bars()

Weights = dict[str, torch.Tensor]


def sides(kind: str, base: Path, tokenizer: Any, work: Path) -> dict[str, Callable[[], Side]]:
    """Who is compared, ours first: the others begin with its weights."""
    ours, trl = KINDS[kind]

    @cache
    def weights() -> Weights:
        return weights_of(ours(base))

    return {
        OURS: lambda: ours(base),
        "TRL": lambda: trl(base, tokenizer, weights(), work),
        "TRL, checkpointing": lambda: trl(base, tokenizer, weights(), work, checkpointing=True),
    }


def weights_of(side: Side) -> Weights:
    """A copy of the adapter's weights, for TRL to begin with."""
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(side.model).items()}


def trl_dpo(base: Path, tokenizer: Any, weights: Weights, work: Path, checkpointing: bool = False) -> Side:
    """TRL's DPO step with its `sft` term. `checkpointing`: of gradients, which is its default."""
    model = load_causal(base, training_dtype(base))
    arguments = DPOConfig(
        str(work), loss_type=["sigmoid", "sft"], loss_weights=[1.0, LIKELIHOOD], beta=BETA, max_length=None,
        **_common(model, checkpointing),
    )  # fmt: skip
    trainer: Any = DPOTrainer(
        model, args=arguments, train_dataset=_one_row(), processing_class=tokenizer,
        peft_config=lora(TaskType.CAUSAL_LM),
    )  # fmt: skip

    def examples(rows: Sequence[Row]) -> list[dict[str, list[int]]]:
        return [{"prompt_ids": list(p), "chosen_ids": list(c), "rejected_ids": list(r)} for p, (c, r) in rows]

    return _side(trainer, weights, examples)


def trl_reward(base: Path, tokenizer: Any, weights: Weights, work: Path, checkpointing: bool = False) -> Side:
    """TRL's reward model step."""
    model = load_scorer(base, 1, 0, training_dtype(base))
    trainer: Any = RewardTrainer(
        model, args=RewardConfig(str(work), max_length=None, **_common(model, checkpointing)),
        train_dataset=_one_row(), processing_class=tokenizer, peft_config=lora(TaskType.SEQ_CLS),
    )  # fmt: skip

    def examples(rows: Sequence[Row]) -> list[dict[str, list[int]]]:
        return [{"chosen_ids": [*p, *c], "rejected_ids": [*p, *r]} for p, (c, r) in rows]

    return _side(trainer, weights, examples)


KINDS: dict[str, tuple[Callable[..., Side], Callable[..., Side]]] = {
    "DPO": (our_dpo, trl_dpo),
    "reward model": (our_reward, trl_reward),
}
"""Our step and TRL's."""


def _common(model: Any, checkpointing: bool) -> dict[str, Any]:
    return {
        "bf16": model.dtype == torch.bfloat16,
        "gradient_checkpointing": checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
    }


def _side(trainer: Any, weights: Weights, examples: Any) -> Side:
    """What `train` of this trainer does with a batch, from these weights."""
    set_peft_model_state_dict(trainer.model, weights)
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.model.train()

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        batch = trainer._prepare_inputs(trainer.data_collator(examples(rows)))
        with trainer.accelerator.autocast():
            found: torch.Tensor = trainer.compute_loss(trainer.model, batch)
        return found

    return Side(trainer.model, stepper(trainer.model, loss))


def _one_row() -> Dataset:
    return Dataset.from_list([{"prompt": "hello", "chosen": " there", "rejected": " hello"}])
