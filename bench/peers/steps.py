"""Training steps beside each other: from the same weights, on the same batches, with equal losses.

Steps alternate, so that a busy machine slows all alike, and each round gives one ratio. A step is: make tensors of the
batch, loss, gradients, optimizer. Needs no TRL (its steps are in trl_steps.py).
"""

from __future__ import annotations

import ctypes
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, TaskType, get_peft_model

from models.batches import Row, can_share, lay_out
from models.loading import device, load_causal, load_scorer, training_dtype
from models.loop import mixed_precision
from models.policy import policy_loss, with_policy_lora
from models.reward import reward_loss
from models.settings import PolicySettings

OURS = "ours"
WARM_UP = 2
BETA, LIKELIHOOD = 0.1, 1.0

Loss = Callable[[Sequence[Row]], torch.Tensor]
Step = Callable[[Sequence[Row]], float]
Figures = dict[str, float | str]
Tell = Callable[[str], None]


class Side(NamedTuple):
    """A model in training, and a function that takes one optimizer step on a batch and returns its loss."""

    model: Any
    step: Step


class Shape(NamedTuple):
    """Batches of so many pairs; `lengths` draws the tokens of a prompt, of the chosen and of the rejected reply."""

    pairs: int
    lengths: Callable[[random.Random], tuple[int, int, int]]

    def rows(self, vocabulary: int, seed: int) -> list[Row]:
        """Pairs of random ids: each a prompt and two replies."""
        chance = random.Random(seed)
        rows: list[Row] = []
        for _ in range(self.pairs):
            prompt, chosen, rejected = (
                [chance.randrange(10, vocabulary) for _ in range(n)] for n in self.lengths(chance)
            )  # fmt: skip
            rows.append((prompt, [chosen, rejected]))
        return rows


def fixed(pairs: int, prompt: int, reply: int) -> Shape:
    """Pairs of these lengths."""
    return Shape(pairs, lambda _: (prompt, reply, reply))


def varied(pairs: int, prompt: tuple[int, int], reply: tuple[int, int]) -> Shape:
    """Pairs of lengths between these."""
    return Shape(pairs, lambda chance: (chance.randint(*prompt), chance.randint(*reply), chance.randint(*reply)))


def tokens_of(rows: Sequence[Row]) -> int:
    """Tokens of the pairs, padding apart: a prompt counts once for each reply to it."""
    return sum(len(prompt) + len(reply) for prompt, replies in rows for reply in replies)


def our_dpo(base: Path) -> Side:
    """Our DPO step with the likelihood term."""
    model = scatter(with_policy_lora(load_causal(base, training_dtype(base)), PolicySettings()))

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        ones = torch.ones(len(rows))
        batch = moved({"kind": "dpo", "replies": _laid_out(model, rows), "weights": ones, "target": ones})
        with mixed_precision(model):
            return policy_loss(model, batch, BETA, LIKELIHOOD)

    return Side(model, stepper(model, loss))


def our_reward(base: Path) -> Side:
    """Our reward model's step, with one head."""
    model = scatter(get_peft_model(load_scorer(base, 1, 0, training_dtype(base)), lora(TaskType.SEQ_CLS)))

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        ones = torch.ones(len(rows))
        weights = {"pair_weights": ones[:, None], "label_weights": torch.zeros(0, 1), "desirable": torch.zeros(0)}
        batch = moved({"replies": _laid_out(model, rows), "preference": ones, **weights})
        with mixed_precision(model):
            return reward_loss(model, batch)

    return Side(model, stepper(model, loss))


def lora(task: TaskType) -> LoraConfig:
    """The LoRA that every side trains."""
    return LoraConfig(task_type=task, r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")


def scatter(model: Any) -> Any:
    """Give the adapter weights that do something, so that equal losses are no accident."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    return model.train()


def stepper(model: Any, loss: Loss) -> Step:
    """A function that takes one optimizer step on a batch and returns its loss."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)

    def step(rows: Sequence[Row]) -> float:
        optimizer.zero_grad()
        value = loss(rows)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def moved(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch where models live, as the training loop moves it."""
    return {
        name: moved(value) if isinstance(value, dict) else value.to(device()) if torch.is_tensor(value) else value
        for name, value in batch.items()
    }


def compare(
    builds: Mapping[str, Callable[[], Side]],
    batch: Callable[[int], list[Row]],
    rounds: int,
    tell: Tell,
    over: Callable[[], bool] = lambda: False,
) -> dict[str, Figures]:
    """Figures of each side; ours is the first, and ratios are to it. Stops after a round where it is `over`.

    A side that fails (it may not fit into memory) has its error instead. Whether losses are equal is for `differing`.
    """
    sides: dict[str, Side] = {}
    figures: dict[str, Figures] = {name: {} for name in builds}
    losses: dict[str, list[float]] = {name: [] for name in builds}
    seconds: dict[str, list[float]] = {name: [] for name in builds}
    tokens: list[int] = []

    @contextmanager
    def attempt(name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the others go on
            sides.pop(name, None)
            figures[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            tell(f"{name}: {figures[name]['error']}")

    for name, build in builds.items():
        with attempt(name):
            sides[name], figures[name] = _alone(build, [batch(n) for n in range(WARM_UP)], losses[name])
            tell(f"{name}: ready, {figures[name]['memory_mb']:,.0f} MB at most, losses {_short(losses[name])}")
    for number in range(WARM_UP, WARM_UP + rounds):
        if tokens and over():
            break
        rows = batch(number)
        tokens.append(tokens_of(rows))
        for name in _turn(list(sides), number):
            with attempt(name):
                spent, loss = timed(partial(sides[name].step, rows))
                seconds[name].append(spent)
                losses[name].append(loss)
    for name in sides:
        figures[name] |= _figures(seconds[name], tokens) | {"loss": statistics.mean(losses[name])}
        if OURS in sides:
            figures[name] |= _beside(seconds[name], seconds[OURS]) | {"loss_off": _off(losses[name], losses[OURS])}
    return figures


def differing(figures: Mapping[str, Mapping[str, Figures]], tolerance: float) -> list[str]:
    """What is no comparison: losses that differ by more than so much of ours, or than that itself where ours is below 1."""
    return [
        f"{workload}: the losses of {side} and of ours differ by {off:.1e}, more than {tolerance:.0e}: no comparison"
        for workload, sides in figures.items()
        for side, row in sides.items()
        if (off := float(row.get("loss_off", 0))) > tolerance or math.isnan(off)
    ]


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """Seconds that it took, the accelerator's work included, and what it returned."""
    synchronize()
    start = time.perf_counter()
    value = work()
    synchronize()
    return time.perf_counter() - start, value


def layout_s(rows: Sequence[Row]) -> float:
    """Seconds that it takes to make tensors of a batch and to move them, which are part of a step."""
    return timed(lambda: float(len(moved({"replies": lay_out(rows, 0)}))))[0]


def synchronize() -> None:
    """Wait for the accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(figures: Mapping[str, Mapping[str, Figures]]) -> str:
    """The figures of each workload, for people."""
    lines = [f"{'':44}{'s/step':>8}{'spread':>16}{'tokens/s':>10}{'MB':>8}   beside ours: min median max"]
    for workload, sides in figures.items():
        for side, row in sides.items():
            name = f"{workload}: {side}"
            if "error" in row or "s" not in row:
                lines.append(f"{name:44}{row.get('error', 'not measured')}")
                continue
            ratios = "  ".join(f"{row.get('ratio_' + kind, 0):.2f}" for kind in ("min", "median", "max"))
            spread = f"{row['s_min']:.3f} – {row['s_max']:.3f}"
            lines.append(
                f"{name:44}{row['s']:8.3f}{spread:>16}{row['tokens_per_s']:10,.0f}{row['memory_mb']:8,.0f}   "
                + ("" if side == OURS else ratios)
            )
    return "\n".join(lines)


def _laid_out(model: Any, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    return lay_out(rows, 0, can_share(model))


def _alone(build: Callable[[], Side], batches: Sequence[list[Row]], losses: list[float]) -> tuple[Side, Figures]:
    """The side after its first steps, and the most memory that they took, its model included."""
    before = _held()
    side = build()
    _forget_peak()
    losses += [side.step(rows) for rows in batches]
    return side, {"memory_mb": (_peak() - before) / 1e6}


def _turn(names: list[str], number: int) -> list[str]:
    """Whose step is first changes from round to round."""
    at = number % len(names)
    return names[at:] + names[:at]


def _figures(seconds: Sequence[float], tokens: Sequence[int]) -> Figures:
    return {
        "s": statistics.median(seconds),
        "s_min": min(seconds),
        "s_max": max(seconds),
        "tokens_per_s": sum(tokens) / sum(seconds),
        "rounds": len(seconds),
    }


def _beside(seconds: Sequence[float], ours: Sequence[float]) -> Figures:
    ratios = [theirs / own for theirs, own in zip(seconds, ours, strict=True)]
    return {"ratio_min": min(ratios), "ratio_median": statistics.median(ratios), "ratio_max": max(ratios)}


def _off(losses: Sequence[float], ours: Sequence[float]) -> float:
    """The largest difference, relative to the loss where that is above 1."""
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(losses, ours, strict=True))


def _short(losses: Sequence[float]) -> str:
    return " ".join(f"{loss:.5f}" for loss in losses)


def _held() -> int:
    """Bytes in use now: the accelerator's, or this process's resident ones."""
    gc.collect()
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, so that it isn't counted as in use
    return _status("VmRSS")


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes) * 1024
