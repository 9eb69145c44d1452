"""From a GGUF file to a base in Hugging Face format: `python -m models.convert FILE.gguf DIRECTORY`.

A process of its own: it holds the model twice. What the reader of GGUF files leaves wrong is put right here.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from models.parent import end_with_parent

_OF_THE_READER = ("quantization_config", "_model_name_or_path", "_name_or_path", "unk_token_id", "transformers_version")


def convert(file: Path, directory: Path) -> None:
    """Write model (bfloat16) and tokenizer of the GGUF `file` to `directory`. Raises what its reader raises."""
    source: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    model = _fresh(AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32))
    model.save_pretrained(directory)
    _tokenizer(AutoTokenizer.from_pretrained(**source), model.config).save_pretrained(directory)


def _fresh(read: Any) -> Any:
    """A model with these weights that can be saved: one read from a GGUF file counts as quantised.

    In bfloat16, as the original was published: training in bfloat16 and serving in float32 then have the same weights.
    """
    content = {name: value for name, value in read.config.to_dict().items() if name not in _OF_THE_READER}
    model: Any = AutoModelForCausalLM.from_config(type(read.config)(**content), dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model


def _tokenizer(read: Any, config: Any) -> Any:
    """The tokenizer as its model was trained with it: of a GGUF file one comes that ends replies with the token that
    begins them, joins digits, turns U+2581 into a blank and bytes that it lacks into a special token, and knows no length.
    """
    backend: Tokenizer = read.backend_tokenizer
    pieces = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    backend.decoder = decoders.ByteLevel()
    bpe: Any = backend.model
    bpe.unk_token, bpe.byte_fallback, bpe.fuse_unk = None, False, False
    end = backend.id_to_token(config.eos_token_id)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=backend.id_to_token(config.bos_token_id),
        eos_token=end,
        pad_token=end,
        model_max_length=config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = read.chat_template
    return tokenizer


if __name__ == "__main__":
    end_with_parent()
    set_verbosity_error()
    # transformers reads the file four times, some seconds each
    gguf.GGUFReader = cache(gguf.GGUFReader)  # type: ignore[assignment,misc]
    disable_progress_bar()
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
