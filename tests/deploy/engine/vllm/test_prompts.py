"""Prompts as token ids: what the base says of its template, how a long conversation is cut, and who waits for whom."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.engine.port import EngineFailed
from deploy.engine.vllm.prompts import LONG, Prompts, Template
from models.bases import Base
from tests.deploy.candidates import base_of
from tests.deploy.engine.vllm.speaking import with_tokenizer
from tests.fakes import until

END = 1


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """One byte is one token, and each message costs two more; the opening of a reply one."""
    return with_tokenizer(base_of(tmp_path))


@pytest.fixture
async def prompts(base: Base) -> AsyncIterator[Prompts]:
    made = Prompts(base)
    made.start()
    yield made
    made.stop()


def test_an_engine_is_told_of_the_ends_that_the_base_does_not_tell_it(base: Base) -> None:
    generation = Path(base.path) / "generation_config.json"
    assert Template.read(base).ends == {END}
    generation.write_text(json.dumps({"eos_token_id": 7}))
    assert Template.read(base).ends == {END}
    generation.write_text(json.dumps({"eos_token_id": [7, END]}))
    assert Template.read(base).ends == frozenset()
    generation.write_text(json.dumps({"eos_token_id": END}))
    assert Template.read(base).ends == frozenset()


def test_what_the_base_says_of_its_lengths_is_read_and_may_be_missing(base: Base) -> None:
    assert (Template.read(base).longest, Template.read(base).context) == (None, None)
    (Path(base.path) / "generation_config.json").write_text(json.dumps({"max_new_tokens": 50}))
    (Path(base.path) / "config.json").write_text(json.dumps({"max_position_embeddings": 96}))
    assert (Template.read(base).longest, Template.read(base).context) == (50, 96)
    (Path(base.path) / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 64}}))
    assert Template.read(base).context == 64


def test_the_oldest_messages_go_while_the_newest_has_room(base: Base) -> None:
    template = Template.read(base)
    assert template.prompt(said("aaaa", "bbbb", "cc"), 12, 16) == template.chat.prompt(said("bbbb", "cc"), 99)
    assert template.prompt(said("aaaa"), 7, 16) == template.chat.prompt(said("aaaa"), 99)


def test_an_over_long_system_message_is_cut_as_in_training_and_the_newest_one_stays_whole(base: Base) -> None:
    template = Template.read(base)
    ids = template.prompt([{"role": "system", "content": "s" * 40}, *said("cc")], 12, 16)
    assert ids == template.chat.prompt([{"role": "system", "content": "s" * 5}, *said("cc")], 99)
    assert len(ids) == 12


def test_a_newest_message_that_leaves_little_room_for_a_reply_is_not_cut(base: Base) -> None:
    template = Template.read(base)
    assert template.prompt(said("aa", "b" * 11), 12, 16) == template.chat.prompt(said("b" * 11), 99)


def test_of_a_newest_message_without_room_the_engine_is_told_one_token_too_many(base: Base) -> None:
    template = Template.read(base)
    for size in (14, 15, 40_000):
        ids = template.prompt(said("aa", "b" * size), 12, 16)
        assert ids is not None
        assert len(ids) == 17
        assert ids[-2:] == template.chat.prompt(said("b"), 99)[-2:]


async def test_nothing_is_there_before_the_tokenizer_was_read(base: Base) -> None:
    prompts = Prompts(base)
    assert prompts.missing == "the base's tokenizer is being read"
    prompts.start()
    assert await prompts.ids(said("a"), 10, 16) == Template.read(base).chat.prompt(said("a"), 10)
    assert prompts.missing is None
    assert await prompts.unmarked(said("<|end|>")) == said("<\u200d|end|>")
    prompts.stop()
    with pytest.raises(EngineFailed, match="stopping"):
        await prompts.ids(said("a"), 10, 16)


async def test_a_long_conversation_keeps_neither_the_loop_nor_a_short_one_waiting(
    prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prompts.template()
    begun, release, prompt = threading.Event(), threading.Event(), Template.prompt

    def slow(self: Template, messages: Sequence[dict[str, Any]], room: int, context: int) -> list[int] | None:
        if len(messages[0]["content"]) > LONG:
            begun.set()
            assert release.wait(60)
        return prompt(self, messages, room, context)

    monkeypatch.setattr(Template, "prompt", slow)
    long = asyncio.create_task(prompts.ids(said("a" * (LONG + 1)), 10, 16))
    try:
        await until(begun.is_set)
        ids = await prompts.ids(said("a"), 10, 16)
        assert ids is not None
        assert len(ids) == 4
        assert not long.done()
    finally:
        release.set()
    assert len(await long or ()) == 17


def test_prompts_bring_in_no_torch(base: Base) -> None:
    code = "import sys; from models.bases import Base; from deploy.engine.vllm import engine, prompts; "
    code += f"prompts.Template.read(Base({base.path!r}, *'abcd')); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_prompt_is_rendered_on_the_day_that_is_asked_for(base: Base) -> None:
    config = Path(base.path) / "tokenizer_config.json"
    known = json.loads(config.read_bytes())
    dated = "{{ strftime_now('%Y-%m-%d') }}" + known["chat_template"]
    config.write_text(json.dumps(known | {"chat_template": dated}))
    prompts = Prompts(base)
    prompts.start()
    try:
        template = await prompts.template()
        for day in ("2026-11-27", "2020-01-31", "2026-11-27"):
            ids = await prompts.ids(said("a"), 60, 99, day)
            assert ids is not None
            assert template.chat.tokenizer.decode(ids).startswith(day)
    finally:
        prompts.stop()
