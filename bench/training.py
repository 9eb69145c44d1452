"""Seconds per training step beside TRL's, on the same batches, from the same weights, with equal losses.

    python bench/training.py [--rounds 5] [--json]

Steps alternate between the two, so that a busy machine slows both; each round gives one ratio, and the table shows
their spread. A step is: make tensors of the batch, loss, gradients, optimizer. TRL has its defaults (its fused output
head included), LoRA as ours, the reference by switching the adapter off, dropout 0. It is needed for this only:
pip install -r requirements-bench.lock.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]
from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers.utils import logging as transformers_logging
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from models.batches import Row, lay_out
from models.loading import load_causal, load_scorer
from models.policy import policy_loss, with_lora
from models.reward import reward_loss
from models.settings import PolicySettings, TinySettings
from models.tiny import fresh_model, train_tokenizer

VOCABULARY, LAYERS, WIDTH, PAIRS = 8_192, 4, 256, 8
THREADS = 2
TOLERANCE = 2e-4
SHAPES: dict[str, Callable[[random.Random], tuple[int, int, int]]] = {
    "192 + 64 tokens": lambda _: (192, 64, 64),
    "variable": lambda chance: (chance.randint(16, 192), chance.randint(4, 64), chance.randint(4, 64)),
}

Step = Callable[[Sequence[Row]], float]


def make_rows(shape: str, seed: int) -> list[Row]:
    """Eight pairs of random ids: a prompt and two replies."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for _ in range(PAIRS):
        prompt, chosen, rejected = (
            [chance.randrange(10, VOCABULARY) for _ in range(n)] for n in SHAPES[shape](chance)
        )  # fmt: skip
        rows.append((prompt, [chosen, rejected]))
    return rows


def stepper(parameters: Sequence[torch.nn.Parameter], loss: Callable[[Sequence[Row]], torch.Tensor]) -> Step:
    """A function that takes one optimizer step on a batch and returns its loss."""
    optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-4, weight_decay=0.0)

    def step(rows: Sequence[Row]) -> float:
        optimizer.zero_grad()
        value = loss(rows)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def our_dpo(base: Path) -> tuple[Any, Step]:
    """Our DPO step with the likelihood term."""
    model = scatter(with_lora(load_causal(base), PolicySettings()))

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        ones = torch.ones(len(rows))
        batch = {"kind": "dpo", "replies": lay_out(rows, 0), "weights": ones, "target": ones}
        return policy_loss(model, batch, beta=0.1, likelihood=1.0)

    return model, stepper(list(model.parameters()), loss)


def trl_dpo(base: Path, tokenizer: Any, ours: Any, work: Path) -> Step:
    """TRL's DPO step with its `sft` term, from our weights."""
    arguments = DPOConfig(
        str(work), loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0], beta=0.1, max_length=None, report_to=[],
        bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    trainer: Any = DPOTrainer(
        load_causal(base), args=arguments, train_dataset=_one_row(), processing_class=tokenizer,
        peft_config=lora(TaskType.CAUSAL_LM),
    )  # fmt: skip
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(ours))
    trainer.model.train()

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        examples = [{"prompt_ids": list(p), "chosen_ids": list(c), "rejected_ids": list(r)} for p, (c, r) in rows]
        found: torch.Tensor = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
        return found

    return stepper(list(trainer.model.parameters()), loss)


def our_reward(base: Path) -> tuple[Any, Step]:
    """Our reward model's step, with one head."""
    model = scatter(get_peft_model(load_scorer(base, 1, 0), lora(TaskType.SEQ_CLS)))

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        ones = torch.ones(len(rows))
        weights = {"pair_weights": ones[:, None], "label_weights": torch.zeros(0, 1), "desirable": torch.zeros(0)}
        return reward_loss(model, {"replies": lay_out(rows, 0), "preference": ones, **weights})

    return model, stepper(list(model.parameters()), loss)


def trl_reward(base: Path, tokenizer: Any, ours: Any, work: Path) -> Step:
    """TRL's reward model step, from our weights."""
    arguments = RewardConfig(str(work), max_length=None, report_to=[], bf16=False, gradient_checkpointing=False)
    trainer: Any = RewardTrainer(
        load_scorer(base, 1, 0), args=arguments, train_dataset=_one_row(), processing_class=tokenizer,
        peft_config=lora(TaskType.SEQ_CLS),
    )  # fmt: skip
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(ours))
    trainer.model.train()

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        examples = [{"chosen_ids": [*p, *c], "rejected_ids": [*p, *r]} for p, (c, r) in rows]
        found: torch.Tensor = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
        return found

    return stepper(list(trainer.model.parameters()), loss)


def lora(task: TaskType) -> LoraConfig:
    """The LoRA that both sides train."""
    return LoraConfig(task_type=task, r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")


def scatter(model: Any) -> Any:
    """Give the adapter weights that do something, so that equal losses are no accident."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    return model.train()


def compare(ours: Step, theirs: Step, shape: str, rounds: int) -> dict[str, float]:
    """Alternate steps on the same batches; the first round warms up and is not counted."""
    seconds: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        rows = make_rows(shape, number)
        losses, spent = [], []
        for step in (ours, theirs) if number % 2 else (theirs, ours):
            start = time.perf_counter()
            losses.append(step(rows))
            spent.append(time.perf_counter() - start)
        if abs(losses[0] - losses[1]) > TOLERANCE * max(1.0, abs(losses[0])):
            raise SystemExit(f"the losses differ on {shape}, round {number}: {losses}: this is no comparison")
        seconds.append((spent[0], spent[1]) if number % 2 else (spent[1], spent[0]))
    ratios = [b / a for a, b in seconds[1:]]
    return {
        "ours_s": statistics.median(a for a, _ in seconds[1:]),
        "trl_s": statistics.median(b for _, b in seconds[1:]),
        "ratio_min": min(ratios),
        "ratio_median": statistics.median(ratios),
        "ratio_max": max(ratios),
    }


def run(rounds: int, work: Path) -> dict[str, dict[str, float]]:
    """Every workload's figures, by name."""
    sizes = TinySettings(vocabulary=300, layers=LAYERS, width=WIDTH)
    tokenizer = train_tokenizer([[{"role": "user", "content": "hello there"}]], 300, work / "tokenizer")
    model = fresh_model(tokenizer, sizes, 512)
    model.resize_token_embeddings(VOCABULARY)
    model.save_pretrained(work / "base")
    figures = {}
    for name, ours, trl in (("DPO", our_dpo, trl_dpo), ("reward model", our_reward, trl_reward)):
        for shape in SHAPES:
            adapted, step = ours(work / "base")
            beside: Step = trl(work / "base", tokenizer, adapted, work / "trl")
            figures[f"{name}, {shape}"] = compare(step, beside, shape, rounds)
    return figures


def _one_row() -> Dataset:
    return Dataset.from_list([{"prompt": "hello", "chosen": " there", "rejected": " hello"}])


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5, help="steps that count, of each side and workload")
    arguments.add_argument("--json", action="store_true", help="one JSON document")
    options = arguments.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as directory:
        figures = run(options.rounds, Path(directory))
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{'step of ' + str(PAIRS) + ' pairs':34}{'ours s':>8}{'TRL s':>8}   TRL/ours: min median max")
    for name, row in figures.items():
        ratios = "  ".join(f"{row['ratio_' + kind]:.2f}" for kind in ("min", "median", "max"))
        print(f"{name:34}{row['ours_s']:8.3f}{row['trl_s']:8.3f}   {ratios}")


if __name__ == "__main__":
    main()
