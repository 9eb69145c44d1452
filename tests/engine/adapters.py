"""Adapters as nobody should find them on disk: copies of a good one with something changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from models.adapters import CONFIG, WEIGHTS

Weights = Any
"""An array of numpy's."""


def changed(good: Path, to: Path, change: Callable[[str, Weights], tuple[str, Weights]]) -> Path:
    """With other tensors: `change` is given each one's name and values."""
    copied(good, to)
    tensors = dict(change(name, values) for name, values in load_file(good / WEIGHTS).items())
    save_file(tensors, to / WEIGHTS, metadata={"format": "pt"})
    return to


def configured(good: Path, to: Path, **settings: Any) -> Path:
    """With other settings in its configuration."""
    copied(good, to)
    (to / CONFIG).write_text(json.dumps(json.loads((good / CONFIG).read_bytes()) | settings))
    return to


def copied(good: Path, to: Path) -> Path:
    """As it is."""
    shutil.copytree(good, to)
    return to


def cut(good: Path, to: Path) -> Path:
    """With half of its weights' bytes."""
    weights = (copied(good, to) / WEIGHTS).read_bytes()
    (to / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    return to


def garbage(good: Path, to: Path) -> Path:
    """With bytes that are no weights."""
    (copied(good, to) / WEIGHTS).write_bytes(b"\xff" * 2_000)
    return to


def without(file: str) -> Callable[[Path, Path], Path]:
    """With one of its files missing."""

    def make(good: Path, to: Path) -> Path:
        (copied(good, to) / file).unlink()
        return to

    return make


def zeros(good: Path, to: Path) -> Path:
    """One that changes nothing."""
    return changed(good, to, lambda name, values: (name, np.zeros_like(values) if "lora_B" in name else values))


def nan(good: Path, to: Path) -> Path:
    """One that computes no numbers."""
    return changed(good, to, lambda name, values: (name, np.full_like(values, np.nan)))


def misnamed(good: Path, to: Path) -> Path:
    """One whose tensors are for layers that the base does not have."""
    return changed(good, to, lambda name, values: (name.replace(".layers.", ".strata."), values))
