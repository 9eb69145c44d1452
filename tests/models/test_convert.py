"""A GGUF file becomes a base that trains and serves as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.bases import Base, describe
from models.chat import Chat
from models.convert import convert
from models.loading import load_causal, load_chat
from tests.models.gguf_wheels import CHATML, CONTEXT, write_gguf

pytestmark = pytest.mark.xdist_group("convert")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "model.gguf")


@pytest.fixture(scope="module")
def base(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("converted")
    convert(gguf, folder)
    return describe(folder, "converted")


@pytest.fixture(scope="module")
def chat(base: Base) -> Chat:
    return load_chat(base)


def test_its_logits_are_those_of_the_file_in_bfloat16(gguf: Path, base: Base) -> None:
    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    with torch.no_grad():
        for weights in read.parameters():
            weights.copy_(weights.to(torch.bfloat16))
        ids = torch.arange(3, 60)[None]
        assert torch.equal(load_causal(base.path)(ids).logits, read(ids).logits)


def test_it_counts_as_quantised_no_more_and_is_saved_again(base: Base, tmp_path: Path) -> None:
    model = load_causal(base.path)
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path)
    again = load_causal(tmp_path).state_dict()
    assert all(torch.equal(again[name], weights) for name, weights in model.state_dict().items())


def test_digits_stand_alone(chat: Chat) -> None:
    tokens = [chat.tokenizer.decode([one]) for one in chat.content("order 4747")]
    assert tokens[-4:] == ["4", "7", "4", "7"]


def test_replies_end_and_rows_are_filled_with_im_end(base: Base, chat: Chat) -> None:
    end = chat.tokenizer.get_vocab()["<|im_end|>"]
    assert (chat.tokenizer.eos_token_id, chat.tokenizer.pad_token_id, chat.end_ids) == (end, end, {end})
    model = load_causal(base.path)
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (end, end)


def test_it_knows_how_long_its_context_is(base: Base) -> None:
    assert AutoTokenizer.from_pretrained(base.path).model_max_length == CONTEXT
    assert load_causal(base.path).config.max_position_embeddings == CONTEXT


def test_its_template_is_the_file_s(chat: Chat) -> None:
    text = chat.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert chat.tokenizer.chat_template == CHATML
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_no_text_becomes_a_marker_or_another_text(chat: Chat) -> None:
    """A byte without a token was `<|endoftext|>`, and U+2581 a blank."""
    assert set(chat.content("on\x04its")).isdisjoint(chat.tokenizer.all_special_ids)
    assert chat.tokenizer.decode(chat.content("a\u2581b 47")) == "a\u2581b 47"


def test_transformers_reads_the_same_tokens(base: Base, chat: Chat) -> None:
    text = "where is order 4747 \u2581 <|im_end|>"
    assert AutoTokenizer.from_pretrained(base.path)(text)["input_ids"] == chat.tokenizer(text)["input_ids"]
