"""An address that is tried; what each misfortune is told as is in tests/deploy/cli/test_engine.py, as it is typed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from deploy.engine import checking
from deploy.engine.checking import check_engine
from deploy.serving_settings import EngineSettings
from tests.fakes import CLOCK
from tests.own_engine import MODEL, own_engine


async def test_a_quick_look_asks_for_no_reply() -> None:
    with own_engine() as server:
        engine = EngineSettings(kind="openai", urls=(server.url,), model=MODEL)
        (found,) = await check_engine(engine, None, CLOCK, quick=True)
        assert (found.reachable, found.model_known, found.answers, found.wrong) == (True, True, None, [])
        assert [path for path, _ in server.asked] == ["/v1/models"]


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LOOK_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = EngineSettings(kind="openai", urls=(f"http://127.0.0.1:{port}/v1",), model="m")
    (found,) = await check_engine(engine, None, CLOCK)
    server.close()
    assert "says nothing for 0.05 s" in found.wrong[0]
    assert not found.reachable
