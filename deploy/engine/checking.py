"""Each address of an engine, tried as chats will try it: what is wrong is a sentence that says what to do.

One request after another on each address, all addresses at once. Nothing is loaded, changed or logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import aiohttp
import msgspec

from deploy.engine.remote.documents import at_most
from deploy.engine.remote.events import Events, TooLong
from deploy.engine.vllm import answers
from deploy.engine.vllm.answers import FilesNotVisible
from deploy.engine.vllm.plan import OURS
from deploy.engine.vllm.replica import Replica
from deploy.serving_settings import EngineSettings
from feedback.clock import Clock

LOOK_S = 3.0
"""How long somebody who looks waits for a list of models."""

CHAT_S = 60.0
"""How long a first word may take."""

MAX_BYTES = 4 << 20
NOWHERE = PurePath("/trimtab-engine-check")
_REFUSED = (401, 403)
_QUESTION = [{"role": "user", "content": "Say yes."}]


class Wrong(Exception):
    """What is wrong and what to do; nothing more can be found out there."""


@dataclass
class Checked:
    """What was found out about one address; None: it did not come to that, or (models) the server keeps no list."""

    url: str
    reachable: bool | None = None
    key_accepted: bool | None = None
    model_known: bool | None = None
    answers: bool | None = None
    streams: bool | None = None
    usage_in_streams: bool | None = None
    first_word_s: float | None = None
    models: list[str] | None = None
    loads_adapters: bool | None = None
    wrong: list[str] = field(default_factory=list)

    @property
    def adapters(self) -> list[str]:
        """Those of ours that it has now."""
        return [name for name in self.models or () if name.startswith(OURS)]


async def check_engine(
    engine: EngineSettings, key: str | None, clock: Clock, *, quick: bool = False
) -> Sequence[Checked]:
    """Every address of a server's settings. `quick`: only whether it is there, takes our key and lists our model."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session:
        return await asyncio.gather(*(_Try(session, engine, url, key, clock).all(quick) for url in engine.urls))


class _Try:
    """One address."""

    def __init__(
        self, session: aiohttp.ClientSession, engine: EngineSettings, url: str, key: str | None, clock: Clock
    ) -> None:
        assert engine.model is not None  # the settings were checked
        self._session, self._engine, self._key, self._clock = session, engine, key, clock
        self._model, self._limit = engine.model, "max_tokens"
        self.found = Checked(url)

    async def all(self, quick: bool) -> Checked:
        with_adapters = self._engine.kind == "vllm"
        steps = [self._list] if quick else [self._list, self._chat, self._stream]
        try:
            for step in [*steps, self._load] if with_adapters and not quick else steps:
                await step()
        except Wrong as wrong:
            self.found.wrong.append(str(wrong))
        return self.found

    async def _list(self) -> None:
        async with self._ask("GET", "/models", LOOK_S) as answer:
            body = await _all_of(answer)
        self._see_key(answer.status, body)
        known = answers.models(body) if answer.status == 200 else None
        if known is None and self._engine.kind == "vllm":
            raise Wrong(str(answers.refusal(self.found.url, "list its models", answer.status, answers.reason(body))))
        if known is not None:  # a hosted API may keep no list, or leave names out that it answers to
            self.found.models = list(known)
            self.found.model_known = True if self._model in known else None

    async def _chat(self) -> None:
        async with self._ask("POST", "/chat/completions", CHAT_S, **self._body()) as answer:
            body = await _all_of(answer)
        if answer.status == 400 and "max_completion_tokens" in answers.reason(body) and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"
            await self._chat()
            return
        self._see_key(answer.status, body)
        self._see_refusal(answer.status, answers.reason(body))
        if not _document(body).get("choices"):
            raise Wrong(
                f"{self.found.url} answers a chat, but not as OpenAI's API does: check the address (it ends with /v1)"
            )
        self.found.answers = self.found.model_known = True

    async def _stream(self) -> None:
        began_s, events, self.found.streams = self._clock.monotonic_s(), Events(), False
        fields = self._body() | {"stream": True, "stream_options": {"include_usage": True}}
        async with self._ask("POST", "/chat/completions", CHAT_S, **fields) as answer:
            if answer.status != 200:
                self._see_refusal(answer.status, answers.reason(await _all_of(answer)))
            self.found.usage_in_streams = False
            async for piece in answer.content.iter_any():
                for data in _feed(events, piece):
                    self.found.streams = self.found.streams or data == b"[DONE]"
                    self._see_chunk(_document(data), began_s)
                if self.found.streams:
                    return
        raise Wrong(
            f"{self.found.url} ends a stream without `data: [DONE]`, so a reply that is cut off can't be told from one that is "
            f"complete: look at that server's version, and at any proxy before it"
        )

    async def _load(self) -> None:
        """Has it load what is nowhere: how it says no tells whether it would load what is there."""
        replica = Replica(self._session, self.found.url.removesuffix("/v1"), self._clock)
        try:
            await replica.load(f"{OURS}check", NOWHERE)
        except FilesNotVisible:
            self.found.loads_adapters = True
        except Exception as error:
            self.found.loads_adapters = False
            raise Wrong(str(error)) from None

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, within_s: float, **fields: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.found.url
        asked = self._session.request(method, url + path, json=fields or None, allow_redirects=False)
        try:
            async with self._clock.timeout(within_s), asked as answer:
                self.found.reachable = True
                yield answer
        except TimeoutError:
            self.found.reachable = bool(self.found.reachable)
            raise Wrong(f"{url}{path} says nothing for {within_s:g} s: look at that server's log") from None
        except (aiohttp.ClientError, OSError) as error:
            if self.found.reachable:
                raise Wrong(f"{url}{path} breaks off its answer ({str(error) or type(error).__name__})") from None
            self.found.reachable = False
            raise Wrong(
                f"{url} can't be reached ({str(error) or type(error).__name__}): is it running, and is that its address as "
                f"seen from this machine?"
            ) from None

    def _body(self) -> dict[str, Any]:
        return {"model": self._model, "messages": _QUESTION, self._limit: 1}

    def _see_key(self, status: int, body: bytes) -> None:
        self.found.key_accepted = status not in _REFUSED
        if not self.found.key_accepted:
            do = "is it that server's?" if self._key else "name one in engine.api_key_file, or --engine-key-file"
            what = "refuses our key" if self._key else "wants a key, and none is configured"
            raise Wrong(f"{self.found.url} {what} ({status}: {answers.reason(body)[:100]}): {do}")

    def _see_refusal(self, status: int, why: str) -> None:
        if status == 200:
            return
        url, listed = self.found.url, self.found.models
        if status in (400, 404) and "model" in why.lower() and self._model in why:
            self.found.model_known = False
            has = f"; it has {', '.join(listed[:10])}" if listed else ""
            raise Wrong(f"{url} knows no model {self._model!r}{has}: correct engine.model, or --model")
        if status in (404, 405):
            raise Wrong(f"{url} has no /chat/completions ({status}): check the address, which usually ends with /v1")
        raise Wrong(f"{url} refuses a chat of one token ({status}: {why}): what works there with curl works here too")

    def _see_chunk(self, document: dict[str, Any], began_s: float) -> None:
        if self.found.first_word_s is None:
            self.found.first_word_s = round(self._clock.monotonic_s() - began_s, 3)
        if document.get("usage"):
            self.found.usage_in_streams = True


async def _all_of(answer: aiohttp.ClientResponse) -> bytes:
    body = await at_most(answer, MAX_BYTES)
    if body is None:
        raise Wrong(f"{answer.url} answers with more than {MAX_BYTES >> 20} MiB: check the address")
    return body


def _document(data: bytes) -> dict[str, Any]:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = msgspec.json.decode(data)
        if isinstance(document, dict):
            return document
    return {}


def _feed(events: Events, piece: bytes) -> list[bytes]:
    try:
        return events.feed(piece)
    except TooLong as error:
        raise Wrong(f"a stream can't be read: {error}") from None
