"""The two trainings on the same pairs: ours as the job runs it, and TRL's DPO.

Same base, token ids, LoRA (rank, targets, no dropout), batch size, number of steps, peak rate, warm-up and decay. TRL has
its own loss (its default, without a likelihood term), order of examples and optimizer defaults.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, TaskType
from transformers import AutoTokenizer

from feedback.records import PreferencePair
from models.bases import Base
from models.chat import Chat
from models.loading import load_causal
from models.policy import plan_policy, train_policy
from models.reward import encode
from models.settings import PolicySettings

Report = Callable[[int, int], None]
Training = Callable[[Base, Chat, Sequence[PreferencePair], PolicySettings, int, Path, Report], Path]
"""Returns the directory of an adapter in peft's format, in the folder that it is given."""


def ours(
    base: Base, chat: Chat, pairs: Sequence[PreferencePair], settings: PolicySettings, length: int, work: Path,
    report: Report,
) -> Path:  # fmt: skip
    """The policy update of `trimtab train`; killed, it goes on at its checkpoints."""
    return train_policy(base, chat, {"sft": [], "dpo": list(pairs), "kto": []}, settings, length, work, report)


def trl(
    base: Base, chat: Chat, pairs: Sequence[PreferencePair], settings: PolicySettings, length: int, work: Path,
    report: Report,
) -> Path:  # fmt: skip
    """TRL's DPOTrainer."""
    from datasets import Dataset  # type: ignore[import-untyped]
    from datasets.utils import disable_progress_bars  # type: ignore[import-untyped]
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class Tokenised(DPOTrainer):  # type: ignore[misc]
        """Takes token ids as they are, so that both trainings see the same."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    disable_progress_bars()
    logging.disable(logging.WARNING)
    shutil.rmtree(work / "adapter", ignore_errors=True)
    steps = len(plan_policy(chat, {"sft": [], "dpo": list(pairs), "kto": []}, settings, length))
    arguments = DPOConfig(
        output_dir=str(work / "trl"), beta=settings.beta, max_length=None, per_device_train_batch_size=settings.batch_size,
        max_steps=steps, learning_rate=settings.rate(base.tiny), lr_scheduler_type="cosine", warmup_steps=max(1, steps // 10),
        max_grad_norm=1.0, bf16=False, gradient_checkpointing=False, save_strategy="no", logging_strategy="no",
        report_to=[], disable_tqdm=True, seed=settings.seed, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer: Any = Tokenised(
        load_causal(base.path), args=arguments, train_dataset=Dataset.from_list(_ids(chat, pairs, length)),
        processing_class=AutoTokenizer.from_pretrained(base.path), peft_config=_lora(settings),
    )  # fmt: skip
    trainer.train()
    report(steps, steps)
    trainer.model.save_pretrained(work / "adapter")
    return work / "adapter"


TRAININGS: dict[str, Training] = {"ours": ours, "trl": trl}


def _ids(chat: Chat, pairs: Sequence[PreferencePair], length: int) -> list[dict[str, list[int]]]:
    rows = [encode(chat, pair.prompt, [pair.chosen, pair.rejected], length) for pair in pairs]
    return [{"prompt_ids": list(p), "chosen_ids": list(c), "rejected_ids": list(r)} for p, (c, r) in rows]


def _lora(settings: PolicySettings) -> LoraConfig:
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, lora_dropout=0.0,
        target_modules="all-linear",
    )  # fmt: skip
