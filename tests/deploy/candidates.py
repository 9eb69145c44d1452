"""Real candidate directories, as the training job leaves them, but for what the adapter has learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import to_builtins
from safetensors.numpy import save_file

from models.adapters import CONFIG, MARKER, WEIGHTS, adapter_config, make_manifest
from models.bases import Base


def good_report(**changes: Any) -> dict[str, Any]:
    """A report with nothing to object to; keyword arguments replace parts of it."""
    stats = {"mean_tokens": 20.0, "repetition": 0.05, "language_match": 0.9}
    report: dict[str, Any] = {
        "created_at_us": 1_700_000_000_000_000,
        "snapshot": "s-1",
        "dataset_hash": "sha256:00",
        "base": {"name": "tiny", "revision": "1"},
        "incumbent": None,
        "method": {"sft": 1, "dpo": 2, "kto": 3},
        "reward_model": {"metric": "thumbs", "accuracy": 0.8, "interval": [0.7, 0.9], "holdout": 50},
        "samples": [
            {"prompt": [{"role": "user", "content": "hi"}], "locale": "en", "candidate": "hello", "incumbent": "what"}
        ],
        "sample_stats": {"candidate": stats, "incumbent": stats},
        "probes": {"largest_difference": 0.4},
    }
    return report | changes


def make_candidate(folder: Path, seed: int = 0, **changes: Any) -> str:
    """Write a finished candidate directory below `folder`; returns its digest."""
    base = base_of(folder)
    fresh = folder / f".fresh-{seed}"
    (fresh / "adapter").mkdir(parents=True)
    (fresh / "reward_model").mkdir()
    weights = np.random.default_rng(seed).normal(size=(2, 2, 2)).astype(np.float32)
    names = ("base_model.model.model.q_proj.lora_A.weight", "base_model.model.model.q_proj.lora_B.weight")
    save_file(dict(zip(names, weights, strict=True)), fresh / "adapter" / WEIGHTS)
    (fresh / "adapter" / WEIGHTS).chmod(0o644)
    (fresh / "adapter" / CONFIG).write_text(json.dumps(adapter_config(base, 2, 4, ["q_proj"])))
    manifest = make_manifest(fresh / "adapter", base)
    (fresh / "manifest.json").write_text(json.dumps(to_builtins(manifest)))
    (fresh / "report.json").write_text(json.dumps({"digest": manifest.digest} | good_report(**changes)))
    (fresh / MARKER).touch()
    fresh.rename(folder / manifest.digest)
    return manifest.digest


def base_of(folder: Path) -> Base:
    """What these candidates were trained on."""
    known = {
        "name": "tiny",
        "revision": "1",
        "path": str(folder),
        "tokenizer_sha256": "1" * 64,
        "chat_template_sha256": "2" * 64,
    }
    return Base(**{name: known[name] for name in Base.__struct_fields__})
