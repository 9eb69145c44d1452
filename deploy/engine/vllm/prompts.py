"""Prompts of one base as token ids, made in threads: neither the tokenizer nor a long conversation keeps an event loop waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from deploy.engine.port import EngineFailed
from deploy.engine.thread import STOPPING
from deploy.engine.vllm.templated import without_markers
from feedback.content import joined
from feedback.records import Message
from models.bases import Base
from models.chat import Chat, plain
from models.context import context_of
from models.errors import JobFailed
from models.markers import markers_of
from models.tokenizer import load_chat

LONG = 50_000
"""Characters of a conversation that waits for other long ones, and keeps nobody else waiting."""

_DAYS = 8
"""On which prompts are rendered at once: with each comes what its template remembers."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class Template:
    """A base's chat template with what the base says of its replies. `read` one; any thread may use it."""

    chat: Chat
    markers: tuple[str, ...]
    ends: frozenset[int]
    """Ids that end a turn and that an engine does not know of by itself."""
    longest: int | None
    """Tokens of a reply where nobody says."""
    context: int | None
    """Tokens of prompt and reply, by the base's own word."""

    @classmethod
    def read(cls, base: Base) -> Template:
        """Raises JobFailed where it can't be read."""
        chat, path = load_chat(base), Path(base.path)
        generation = _json(path / "generation_config.json")
        known = {chat.tokenizer.eos_token_id, *_listed(generation.get("eos_token_id"))}
        longest = generation.get("max_new_tokens")
        return cls(chat, markers_of(chat), chat.end_ids - known, longest, context_of(base))

    def dated(self, date: str | None) -> Template:
        """The same on that day: as models.chat.Chat.dated."""
        chat = self.chat.dated(date)
        return self if chat is self.chat else replace(self, chat=chat)

    def prompt(self, messages: Sequence[Message], room: int, context: int) -> list[int] | None:
        """Ids of at most `room`: the oldest messages go. None where the template refuses these roles.

        Where the newest message alone has no room, it comes alone, and whole, so that it is the engine that refuses what is
        longer than its context: of that it is told so much that it sees it.
        """
        try:
            ids = self.chat.prompt(messages, room)
            newest = plain(messages)[-1:]
            alone = self.chat.prompt(newest, context + 1) if newest and len(ids) >= room else []
        except JobFailed:
            return None
        return alone if len(alone) > room else ids


class Prompts:
    """Of one base. Belongs to one event loop. `start` before anything else; `stop`."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._threads = [ThreadPoolExecutor(1, f"prompts-{name}") for name in ("short", "long")]
        self._reading: asyncio.Future[Template] | None = None
        self._dated = dict[str | None, Template]()

    @property
    def missing(self) -> str | None:
        """None where there is a template, else why there is none (yet)."""
        if self._reading is None or not self._reading.done():
            return "the base's tokenizer is being read"
        return str(self._reading.exception() or "") or None

    def start(self) -> None:
        """Begin to read the tokenizer."""
        self._reading = asyncio.get_running_loop().run_in_executor(self._threads[1], Template.read, self._base)
        self._reading.add_done_callback(_tell)

    def stop(self) -> None:
        """Begin nothing more."""
        for threads in self._threads:
            threads.shutdown(wait=False)

    async def template(self) -> Template:
        """Once it has been read. Raises EngineFailed where it can't be."""
        assert self._reading is not None
        try:
            return await asyncio.shield(self._reading)
        except JobFailed:  # what is wrong with it is for the operator
            raise EngineFailed("the engine is not set up to chat yet; try again", 503, "not_ready") from None

    async def ids(
        self, messages: Sequence[Message], room: int, context: int, date: str | None = None
    ) -> list[int] | None:
        """As Template.prompt, on that day. Raises EngineFailed."""
        template = self._on(await self.template(), date)
        return await self._by(messages, lambda: template.prompt(messages, room, context))

    def _on(self, template: Template, date: str | None) -> Template:
        if date not in self._dated:
            if len(self._dated) >= _DAYS:
                self._dated.clear()
            self._dated[date] = template.dated(date)
        return self._dated[date]

    async def unmarked(self, messages: Sequence[Message]) -> list[Message]:
        """The same messages without the template's markers in their texts. Raises EngineFailed."""
        template = await self.template()
        return await self._by(messages, lambda: without_markers(messages, template.markers))

    async def _by(self, messages: Sequence[Message], make: Callable[[], T]) -> T:
        long = sum(len(joined(message.get("content"))) for message in messages) > LONG
        try:
            making = asyncio.get_running_loop().run_in_executor(self._threads[long], make)
        except RuntimeError:  # the threads are shut down
            raise EngineFailed(STOPPING, 503, "not_ready") from None
        return await making


def _tell(reading: asyncio.Future[Template]) -> None:
    if not reading.cancelled() and (error := reading.exception()) is not None:
        log.error("template_not_read", error=str(error)[:500])


def _listed(ids: Any) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
