"""The loop: every planned batch in its order, and the same weights however often it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.errors import JobFailed
from models.loop import mixed_precision, train

BATCHES = [[float(n % 5), 1.0] for n in range(24)]


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it is done."""


def fresh() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(2, 1, bias=False)


def weights(model: torch.nn.Module) -> list[float]:
    return [float(weight) for weight in next(model.parameters()).detach().flatten()]


def trained(work: Path, seen: list[Any] | None = None, kill_at: int | None = None, rate: float = 0.1) -> list[float]:
    """The weights after all of BATCHES; `seen` gets the batches, one after another."""
    model, steps = fresh(), 0

    def loss(model: Any, tensors: dict[str, Any]) -> Tensor:
        nonlocal steps
        if steps == kill_at:
            raise Killed
        steps += 1
        if seen is not None:
            seen.append(tensors["x"].tolist())
        squared: Tensor = (model(tensors["x"]) - 3).square().sum()
        return squared

    train(
        model,
        BATCHES,
        lambda batch: {"x": torch.tensor(batch)},
        loss,
        work,
        learning_rate=rate,
        seed=1,
        report=lambda step, of: None,
    )
    return weights(model)


def test_every_batch_is_a_step_in_the_order_planned(tmp_path: Path) -> None:
    seen: list[Any] = []
    trained(tmp_path, seen)
    assert seen == BATCHES


@pytest.mark.parametrize("kill_at", [3, 7, 23])
def test_a_training_that_was_killed_goes_on_and_ends_in_the_same_weights(tmp_path: Path, kill_at: int) -> None:
    with pytest.raises(Killed):
        trained(tmp_path / "a", kill_at=kill_at)
    done = max((int(path.name.split("-")[1]) for path in (tmp_path / "a").glob("checkpoint-*")), default=0)
    seen: list[Any] = []
    assert trained(tmp_path / "a", seen) == trained(tmp_path / "b")
    assert (done, seen) == (kill_at // 5 * 5, BATCHES[done:])


def test_a_checkpoint_that_was_not_written_whole_does_not_count_and_goes(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(tmp_path / "a", kill_at=12)
    newest = tmp_path / "a" / "checkpoint-10"
    (newest / "_COMPLETE").unlink()
    (newest / "trainer_state.json").write_text("{")
    seen: list[Any] = []
    assert trained(tmp_path / "a", seen) == trained(tmp_path / "b")
    assert seen == BATCHES[5:]


def test_a_training_that_is_done_trains_nothing_again(tmp_path: Path) -> None:
    before, seen = trained(tmp_path), list[Any]()
    assert (trained(tmp_path, seen), seen) == (before, [])


def test_a_training_that_diverges_is_a_failure_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="lower the learning rate"):
        trained(tmp_path, rate=float("inf"))


def test_progress_ends_with_the_last_step(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    train(
        fresh(),
        BATCHES,
        lambda batch: {"x": torch.tensor(batch)},
        lambda model, tensors: model(tensors["x"]).sum(),
        tmp_path,
        learning_rate=0.1,
        seed=1,
        report=lambda step, of: reports.append((step, of)),
    )
    assert reports == sorted(set(reports))
    assert reports[-1] == (24, 24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_gpu_an_adapter_in_float32_computes_in_float32(dtype: torch.dtype) -> None:
    adapter = torch.nn.Linear(2, 2)
    with mixed_precision(torch.nn.ModuleList([torch.nn.Linear(2, 2).to(dtype), adapter])):
        assert adapter(torch.ones(1, 2)).dtype == torch.float32
