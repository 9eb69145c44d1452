"""Typed markers that an engine's own tokenisation would take for real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from models.chat import TINY_MARKERS, Chat
from models.markers import break_markers, markers_of
from models.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def ours(chat: Any, tmp_path_factory: pytest.TempPathFactory) -> Chat:
    """A base that also has words of its own for ordinary text, and a marker that is not special."""
    path: Path = tmp_path_factory.mktemp("markers") / "base"
    chat.tokenizer.save_pretrained(path)
    fast = AutoTokenizer.from_pretrained(path)
    fast.add_tokens(["<b>", "    ", "<turn>"])
    fast.chat_template = "<turn>" + fast.chat_template
    fast.save_pretrained(path)
    return Chat(Tokenizer(path))


def test_what_is_special_or_structures_a_conversation_is_a_marker_and_other_words_are_not(ours: Chat) -> None:
    assert set(markers_of(ours)) == {*TINY_MARKERS, "<turn>"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.lists(st.sampled_from([*TINY_MARKERS, "<turn>", "<", "|", "end", "<|", "a "]), max_size=12).map("".join))
def test_no_broken_text_has_a_marker_for_a_tokenizer_that_looks_for_them(ours: Chat, text: str) -> None:
    markers = markers_of(ours)
    broken = break_markers(text, markers)
    vocabulary = ours.tokenizer.get_vocab()
    assert not {vocabulary[marker] for marker in markers} & set(ours.tokenizer(broken)["input_ids"])
    assert broken.replace("\u200d", "") == text


def test_a_text_without_markers_stays_as_it_is(ours: Chat) -> None:
    text = "<b>2 < 3</b> | <|end| > and 👩\u200d🔬"
    assert break_markers(text, markers_of(ours)) == text


def test_a_template_that_refuses_has_the_special_tokens_for_markers(
    ours: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = Tokenizer.__new__(Tokenizer)
    picky.__dict__ |= ours.tokenizer.__dict__
    monkeypatch.setattr(picky, "_template", _Refusing())
    monkeypatch.setattr(ours, "tokenizer", picky)
    assert set(markers_of(ours)) == set(TINY_MARKERS)


class _Refusing:
    def rendered(self, *_: Any) -> str:
        from jinja2 import TemplateError

        raise TemplateError("no")
