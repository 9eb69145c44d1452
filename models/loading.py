"""Loads a base model and its tokenizer into torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar, set_verbosity

from models.chat import Chat
from models.tokenizer import load_chat as load_chat

set_verbosity(logging.CRITICAL)
disable_progress_bar()

SAFE = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}


def load_causal(path: Path | str) -> Any:
    """The base as a language model, on the accelerator where there is one (then in bfloat16), not training."""
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=_dtype(), **SAFE)
    return model.to(device()).eval()


def load_scorer(path: Path | str, heads: int, seed: int) -> Any:
    """The base with `heads` fresh reward heads instead of its output embedding."""
    torch.manual_seed(seed)
    model: Any = AutoModelForSequenceClassification.from_pretrained(path, num_labels=heads, dtype=_dtype(), **SAFE)
    return model.to(device()).eval()


def device() -> torch.device:
    """Where models live."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pad_id(chat: Chat) -> int:
    """The id that fills up rows: it is never attended to by what counts."""
    pad = chat.tokenizer.pad_token_id
    return int(pad if pad is not None else next(iter(chat.end_ids)))


def _dtype() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
