"""How much a base reads, by its own word. No torch: the gateway asks too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.bases import Base


def context_of(base: Base) -> int | None:
    """Tokens that the base reads at most, by its own word; None where it says none."""
    config, tokenizer = (_json(Path(base.path) / name) for name in ("config.json", "tokenizer_config.json"))
    config |= config["text_config"] if isinstance(config.get("text_config"), dict) else {}
    told = [config.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    known = [n for n in (*told, tokenizer.get("model_max_length")) if isinstance(n, int) and 0 < n < 1e9]
    return min(known, default=None)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
