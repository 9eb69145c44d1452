"""What the conversion has to put right, on the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from models.bases import Base
from models.chat import Chat
from models.loading import load_causal, load_chat
from models.smollm2 import install_smollm2
from tests.real.conftest import STATE


@pytest.fixture(scope="module")
def chat(smollm2: Base) -> Chat:
    return load_chat(smollm2)


@pytest.fixture(scope="module")
def model(smollm2: Base) -> Any:
    return load_causal(smollm2.path)


def test_it_answers_a_question_and_ends(chat: Chat, model: Any) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = chat.tokenizer(chat.tokenizer.apply_chat_template(question, add_generation_prompt=True))["input_ids"]
    reply = model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :].tolist()
    assert "Paris" in chat.tokenizer.decode(reply)
    assert reply[-1] in chat.end_ids


def test_its_tokenizer_is_the_one_it_was_trained_with(smollm2: Base, chat: Chat) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2.path)
    assert [tokenizer.decode([one]) for one in chat.content("order 4711")] == ["order", " ", "4", "7", "1", "1"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert (tokenizer.model_max_length, tokenizer.clean_up_tokenization_spaces) == (8_192, False)
    assert chat.end_ids == {2}


def test_its_template_is_chatml_with_its_own_system_message(chat: Chat) -> None:
    text = chat.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_saved_again_it_gives_the_same_logits(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    ids = torch.arange(100, 140)[None]
    with torch.no_grad():
        assert torch.equal(load_causal(tmp_path)(ids).logits, model(ids).logits)


def test_a_second_time_nothing_is_fetched_and_its_licence_lies_beside_it(
    smollm2: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.smollm2.subprocess", None)
    assert install_smollm2(STATE, lambda *_: None) == smollm2
    assert "Apache License" in (Path(smollm2.path) / "LICENSE").read_text()
