"""An OpenAI-compatible server as an engine: it is asked as clients asked, takes no adapters, and gives every place back."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from deploy.engine.port import EngineFailed, NotReady, Overloaded
from tests.deploy.engine.remote.asking import HELLO, KEY, documents, remote, request, text
from tests.fakes import until
from tests.openai_server import MODEL, cut, openai_server, silence, whole


async def test_it_is_idle_while_less_than_half_of_its_limit_is_under_way() -> None:
    async with openai_server() as server, remote(server.url, limit=4) as engine:
        assert engine.idle
        with engine.admit():
            assert engine.idle
            with engine.admit():
                assert not engine.idle
        assert engine.idle


async def test_the_server_is_asked_what_was_asked_under_its_own_name_with_our_key() -> None:
    async with openai_server(KEY) as server, remote(server.url) as engine:
        told = await documents(engine, request(temperature=0.5, x_new={"a": None}))
        assert text(told) == "Grüß Gott, I am number 0."
        [asked] = server.asked
        assert asked.body == {"model": MODEL, "messages": HELLO, "temperature": 0.5, "x_new": {"a": None}}
        assert asked.headers["Content-Type"] == "application/json"


async def test_the_name_that_was_asked_for_comes_back_and_any_other_stays() -> None:
    async with openai_server() as server, remote(server.url) as engine:
        [told] = await documents(engine, request("small"))
        assert (told["model"], server.bodies[0]["model"]) == ("small", "small-model")
        server.then(whole({"model": "big-2026-01-01", "choices": [{"message": {"content": "x"}}]}))
        assert (await documents(engine))[0]["model"] == "big-2026-01-01"


async def test_without_a_key_none_is_sent() -> None:
    async with openai_server() as server, remote(f"{server.url}/", key=None) as engine:
        await documents(engine)
        assert "Authorization" not in server.asked[0].headers


async def test_its_names_are_those_of_the_settings() -> None:
    async with remote("http://127.0.0.1:9/v1") as engine:
        assert (engine.names, engine.base("small"), engine.loaded) == (("trimtab", "small"), "small-model", frozenset())


async def test_adapters_are_refused_by_name_and_each_once_in_the_log() -> None:
    async with remote("http://127.0.0.1:9/v1") as engine:
        with capture_logs() as lines, engine.admit() as place:
            for digest in ("a" * 64, "b" * 64, "a" * 64):
                assert not await place.hold(digest)
        assert [(line["adapter"], line["error"]) for line in lines] == [
            ("tt-aaaaaaaaaaaaaaaa", "this engine takes no adapters"),
            ("tt-bbbbbbbbbbbbbbbb", "this engine takes no adapters"),
        ]


async def test_beyond_the_limit_requests_are_refused_and_every_place_is_given_back_however_it_was_used() -> None:
    async with openai_server() as server, remote(server.url, limit=1) as engine:
        with engine.admit(), pytest.raises(Overloaded, match="1 requests"):
            engine.admit()
        await documents(engine)
        server.then(whole({"error": {"message": "no"}}, status=400), whole([]))
        for _ in range(2):
            with pytest.raises(Exception, match="engine"):
                await documents(engine)
        with engine.admit() as place:
            answer = place.begin(request())
        with pytest.raises(Overloaded):
            engine.admit()
        answer.cancel()  # nobody ever listened to it
        with engine.admit(), pytest.raises(Overloaded):
            engine.admit()
        assert [document async for document in answer] == []
        with engine.admit(), pytest.raises(Overloaded):
            engine.admit()
        assert len(server.asked) == 3


async def test_a_server_that_was_left_alone_is_named_to_the_operator_and_not_to_clients() -> None:
    async with openai_server() as server, remote(server.url) as engine:
        server.then(cut, cut, cut)
        for _ in range(3):
            assert engine.ready() is None
            with pytest.raises(EngineFailed):
                await documents(engine)
        assert server.url in (engine.ready() or "")
        with pytest.raises(NotReady) as raised:
            engine.admit()
        assert "127.0.0.1" not in str(raised.value)
        assert "try again" in str(raised.value)


async def test_draining_lets_go_on_what_has_begun_and_begins_nothing_more() -> None:
    async with openai_server() as server, remote(server.url) as engine:
        with engine.admit() as place, engine.admit() as late:
            answer = place.begin(request())
            engine.drain()
            with pytest.raises(NotReady, match="stopping"):
                late.begin(request())
        with pytest.raises(NotReady, match="stopping"):
            engine.admit()
        assert len([document async for document in answer]) == 1


async def test_stopping_ends_what_is_under_way_with_an_error() -> None:
    async with openai_server() as one, openai_server() as other, remote(one.url, other.url) as engine:
        one.then(silence)
        asking = asyncio.create_task(documents(engine))
        await until(lambda: len(one.asked) == 1)
        await engine.stop()
        with pytest.raises(EngineFailed, match="stopping"):
            await asking
        assert one.asked[0].gone.is_set() or await one.asked[0].gone.wait()
        assert not other.asked
