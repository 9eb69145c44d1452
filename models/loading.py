"""Loads a base model and its tokenizer into torch."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar, set_verbosity

from models.chat import Chat
from models.errors import JobFailed
from models.processor import BFLOAT16
from models.tokenizer import load_chat as load_chat

set_verbosity(logging.CRITICAL)
disable_progress_bar()

SAFE = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}


_SMALL_BYTES = 64 << 20  # of weights: such a base is quick in float32 too, and needs no care with memory


def load_causal(path: Path | str, dtype: torch.dtype | None = None) -> Any:
    """The base as a language model, on the accelerator where there is one, not training.

    Without `dtype` in that of serving: bfloat16 on a GPU that has it, else float32.
    """
    model = _opened(AutoModelForCausalLM, path, dtype or _serving_dtype())
    return model.to(device()).eval()


def load_scorer(path: Path | str, heads: int, seed: int, dtype: torch.dtype | None = None) -> Any:
    """The base with `heads` fresh reward heads, in float32, instead of its output embedding."""
    torch.manual_seed(seed)
    dtype = dtype or _serving_dtype()
    model = _opened(AutoModelForSequenceClassification, path, dtype, num_labels=heads)
    model.score.float()  # in bfloat16 a step of 1e-4 moves no weight
    return model.to(device()).eval()


def _opened(kind: Any, path: Path | str, dtype: torch.dtype, **settings: Any) -> Any:
    """The model, by the attention that suits it here, whatever its config asks for. Raises JobFailed."""
    try:
        config = AutoConfig.from_pretrained(path, **SAFE, **settings)
        config._attn_implementation = None
        return kind.from_pretrained(path, config=config, dtype=dtype, **SAFE)
    except Exception as error:  # what a config may be wrong in, libraries say in every kind
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or getattr(error, "errno", None) is not None:
            raise
        said = " ".join(str(error).split())[:300]
        raise JobFailed(
            f"the base model {path} can't be loaded ({type(error).__name__}: {said}): it must be one that transformers "
            f"{transformers.__version__} knows, without code of its own; correct its config.json, or choose another base"
        ) from None


def training_dtype(path: Path | str) -> torch.dtype:
    """What a frozen base computes in while something is trained on it, or samples it.

    bfloat16 where the machine multiplies in it, which halves memory and is several times as fast; float32 elsewhere, and
    for a base that is small.
    """
    small = sum(file.stat().st_size for file in Path(path).glob("*.safetensors")) < _SMALL_BYTES
    return torch.bfloat16 if has_bfloat16() and not small else torch.float32


def has_bfloat16() -> bool:
    """Whether this machine's accelerator, or its processor where it has none, multiplies matrices in bfloat16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(can.get(name) for name in BFLOAT16)


def release_memory() -> None:
    """Give back what models that nobody holds any more had: they are in cycles, and the C library keeps what it freed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return_freed()


def return_freed() -> None:
    """Give the system what the C library has freed and keeps: between what is still held it finds little use for it."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc, and not musl
        libc.malloc_trim(0)


def device() -> torch.device:
    """Where models live."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pad_id(chat: Chat) -> int:
    """The id that fills up rows: it is never attended to by what counts."""
    pad = chat.tokenizer.pad_token_id
    return int(pad if pad is not None else next(iter(chat.end_ids)))


def _serving_dtype() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_available() and has_bfloat16() else torch.float32
