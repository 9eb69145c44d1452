"""The training loop: `transformers.Trainer` over batches and a loss that were decided beforehand.

The list of batches is a pure function of data and seed, so a killed training resumes at its last complete checkpoint
and ends in the same weights. A checkpoint counts only when its marker is there, which is written last.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from models.errors import JobFailed
from models.loading import return_freed

Report = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

_MARKER = "_COMPLETE"
_CHECKPOINTS = 8  # so many in one training
_MIN_INTERVAL = 5  # steps
_GIVE_BACK_EVERY = 4  # steps; after each it costs one in twenty of the time


def train(
    model: Any,
    batches: Sequence[Any],
    collate: Callable[[Any], dict[str, Any]],
    loss: Callable[[Any, dict[str, Any]], Tensor],
    work: Path,
    *,
    learning_rate: float,
    seed: int,
    report: Report,
) -> None:
    """Train `model` in place: one step per batch, warm-up over a tenth, cosine decay, gradients clipped to norm 1.

    `collate` makes tensors of one batch; `loss(model, tensors)` is a scalar. Checkpoints go to `work`.
    """
    interval = max(_MIN_INTERVAL, -(-len(batches) // _CHECKPOINTS))
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=len(batches),
        per_device_train_batch_size=1,  # one planned batch
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        warmup_steps=max(1, len(batches) // 10),
        lr_scheduler_type="cosine",
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,  # the newest may be incomplete
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=False,
        seed=seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # more GPUs: torchrun; Trainer's DataParallel would mix planned batches
    trainer = _Trainer(loss, model=model, args=arguments, train_dataset=batches, data_collator=_only(collate))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Watch(report))
    trainer.train(resume_from_checkpoint=_newest_checkpoint(work))
    if not all(bool(p.isfinite().all()) for p in model.parameters() if p.requires_grad):
        raise JobFailed("the training diverged (its weights are no numbers any more): lower the learning rate")


def mixed_precision(model: Any) -> torch.autocast:
    """For a loss on a GPU: a LoRA in float32 on a base in bfloat16 computes in bfloat16 as well, from weights in float32.

    On an H100 a step took 16 to 20% less so, and a fifth less memory; losses differed by what bfloat16 rounds.
    """
    where = {parameter.device.type for parameter in model.parameters()}
    on = where == {"cuda"} and any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    return torch.autocast("cuda" if on else "cpu", torch.bfloat16, enabled=on)


class _Trainer(Trainer):
    def __init__(self, loss: Callable[[Any, dict[str, Any]], Tensor], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._loss = loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        with mixed_precision(model):
            return self._loss(self.accelerator.unwrap_model(model), inputs)


class _Watch(TrainerCallback):
    """Reports steps, gives back what they have freed, and marks a checkpoint once all of it is written."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % _GIVE_BACK_EVERY == 0:
            return_freed()  # batches differ in size: what one has freed lies in pieces that others find too small
        if state.global_step % max(1, state.max_steps // 20) == 0 or state.global_step == state.max_steps:
            self.report(state.global_step, state.max_steps)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        assert args.output_dir is not None
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARKER).touch()


def _only(collate: Callable[[Any], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    def collate_one(batches: list[Any]) -> dict[str, Any]:
        (batch,) = batches
        return collate(batch)

    return collate_one


def _newest_checkpoint(work: Path) -> str | None:
    """The newest complete checkpoint; what a kill left half-written is removed."""
    complete = []
    for path in work.glob("checkpoint-*"):
        if (path / _MARKER).exists():
            complete.append(path)
        else:
            shutil.rmtree(path)
    newest = max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
    return str(newest) if newest else None
