"""One answer of a server that may do anything: each misfortune is a sentence for the client and a line for the operator."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from deploy.engine.port import EngineFailed, EngineRefused
from deploy.engine.remote import answer as module
from deploy.engine.remote import engine as engine_module
from deploy.engine.remote.engine import RemoteEngine
from tests.deploy.engine.remote.asking import KEY, documents, failure, remote, request, text
from tests.fakes import CLOCK, ManualClock, until
from tests.openai_server import (
    USAGE,
    OpenAIServer,
    Script,
    chunks,
    completion,
    cut,
    error,
    openai_server,
    raw,
    silence,
    streaming,
    whole,
)

ASKED = {"model": "big-model-2026", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
PIECES = list(chunks(ASKED))
STREAM = request(stream=True)
HTML = "<html>my secret is mauve</html>"


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@pytest.fixture
async def pair() -> AsyncIterator[tuple[OpenAIServer, OpenAIServer, RemoteEngine]]:
    """Two servers, of which the first is asked first, and an engine on both."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(openai_server()) for _ in range(2)]
        yield servers[0], servers[1], await stack.enter_async_context(remote(*(one.url for one in servers)))


async def test_a_whole_answer_comes_as_it_was_said(server: OpenAIServer) -> None:
    async with remote(server.url) as engine:
        assert await documents(engine, request(n=2)) == [
            completion(request(n=2).body | {"model": "big-model-2026"}) | {"model": "trimtab"}
        ]


async def test_a_stream_comes_piece_by_piece_and_says_what_it_cost_though_nobody_asked(server: OpenAIServer) -> None:
    async with remote(server.url) as engine:
        told = await documents(engine, request(stream=True, stream_options={"x_other": 1}))
    assert text(told) == "Grüß Gott, I am number 0."
    assert told[-1]["usage"] == USAGE
    assert server.bodies[0]["stream_options"] == {"x_other": 1, "include_usage": True}


async def test_a_piece_is_told_before_the_next_has_come(server: OpenAIServer) -> None:
    server.then(streaming(*PIECES[:2], end="silent"))
    async with remote(server.url) as engine:
        with engine.admit() as place:
            answer = place.begin(STREAM)
        told = aiter(answer)
        assert [(await anext(told))["choices"], (await anext(told))["choices"]] == [
            piece["choices"] for piece in PIECES[:2]
        ]
        answer.cancel()
        assert [document async for document in told] == []
        await server.asked[0].gone.wait()


async def test_cancelling_before_the_first_word_ends_the_request_there(server: OpenAIServer) -> None:
    server.then(silence)
    async with remote(server.url) as engine:
        with engine.admit() as place:
            answer = place.begin(STREAM)
        listening = asyncio.create_task(anext(aiter(answer), None))
        await until(lambda: len(server.asked) == 1)
        with capture_logs() as lines:
            answer.cancel()
            assert await listening is None
        await server.asked[0].gone.wait()
        assert (lines, engine.replicas.all[0].failures) == ([], 0)


UNREADABLE = ("the engine's answer can't be read", 502)
FAILURES: dict[str, tuple[Script, tuple[str, int], str]] = {
    "HTML": (raw(HTML.encode()), UNREADABLE, "text/html where a stream of events was expected"),
    "a stream of HTML": (streaming(b"data: <p>mauve\n\n"), UNREADABLE, "HTML where a JSON object was expected"),
    "half a chunk": (
        streaming(b'data: {"choices": [{"delta": {"cont', done=False),
        ("the engine broke off its answer", 502),
        "its stream ended without [DONE]",
    ),
    "half a document": (streaming(b'data: {"choices": \n\n'), UNREADABLE, "no JSON where a JSON object was expected"),
    "a list": (streaming(b"data: [1]\n\n"), UNREADABLE, "no JSON object"),
    "deep brackets": (streaming(b"data: " + b"[" * 100_000 + b"\n\n"), UNREADABLE, "nested more than 200 deep"),
    "a document deeper than records may be": (
        streaming(b'data: {"choices": [], "usage": ' + b'{"mauve":' * 800 + b"1" + b"}" * 801 + b"\n\n"),
        UNREADABLE,
        "nested more than 200 deep",
    ),
    "an error deeper than answers may be": (
        raw(b'{"error": ' + b'{"mauve":' * 800 + b"1" + b"}" * 801, "application/json", 400),
        ("the engine answered 400, and not as OpenAI's API does", 502),
        "400 with application/json",
    ),
    "bytes that are no text": (streaming(b'data: {"a": "\xff"}\n\n'), UNREADABLE, "no JSON"),
    "bytes that are not packed as it says": (
        raw(b"mauve", "text/event-stream", content_encoding="gzip"),
        ("the engine broke off its answer", 502),
        "",
    ),
    "no word at all": (streaming(done=False), ("the engine broke off", 502), "its stream ended without [DONE]"),
    "cut at once": (cut, ("the engine can't be reached; try again", 503), "ServerDisconnectedError"),
    "a wrong key": (
        error(401, "Incorrect API key provided: sk-of-*****tor"),
        ("the engine does not let this gateway in", 502),
        "it refuses our key (401)",
    ),
    "an error page": (
        raw(HTML.encode(), status=418),
        ("the engine answered 418, and not as OpenAI's API does", 502),
        "418 with text/html where an error in JSON was expected",
    ),
    "an error page of one who forwards": (
        raw(HTML.encode(), status=504),
        ("the engine answered 504, and not as OpenAI's API does", 504),
        "504 with text/html where an error in JSON was expected",
    ),
    "a way to elsewhere": (
        whole({"error": {"message": "mauve"}}, 307, location="http://127.0.0.1:9/"),
        ("the engine answered 307, and not as OpenAI's API does", 502),
        "307 with application/json",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_one_sentence_for_the_client_and_one_line_for_the_operator(
    server: OpenAIServer, name: str
) -> None:
    script, (said, status), detail = FAILURES[name]
    server.always = script
    async with remote(server.url) as engine:
        failed, told, lines = await failure(engine)
    assert (told, len(server.asked)) == ([], 1)
    body = str(failed) if isinstance(failed, EngineFailed) else str(failed.body)
    assert said in body
    assert isinstance(failed, EngineFailed | EngineRefused)
    assert failed.status == status
    [line] = lines
    assert (line["event"], line["engine"]) == ("engine_failed", server.url)
    assert detail in line["error"]
    for secret in ("mauve", KEY, "sk-of", "127.0.0.1"):
        assert secret not in body
        assert secret not in str({**line, "engine": ""}) or secret == "127.0.0.1"


async def test_an_answer_with_many_brackets_is_not_a_deep_one(server: OpenAIServer) -> None:
    tokens = [{"token": "a", "bytes": [97], "top_logprobs": []}] * 500
    choice = {"index": 0, "message": {"role": "assistant", "content": "[{" * 500}, "logprobs": {"content": tokens}}
    server.then(whole({"choices": [choice]}))
    async with remote(server.url) as engine:
        assert (await documents(engine))[0]["choices"] == [choice]


async def test_what_is_whole_and_no_answer_is_not_taken_for_one(server: OpenAIServer) -> None:
    for document, detail in (({}, "without choices"), ({"choices": []}, "without choices"), ([1], "no JSON object")):
        server.then(whole(document))
        async with remote(server.url) as engine:
            failed, told, lines = await failure(engine, request())
        assert (str(failed), told) == ("the engine's answer can't be read", [])
        assert detail in lines[0]["error"]


REFUSALS: dict[str, tuple[Script, int, str | None]] = {
    "too many": (error(429, "Rate limit reached", "rate_limit_exceeded", retry_after="17"), 429, "17"),
    "a model that went away": (error(404, "The model `big` does not exist", "model_not_found"), 404, None),
    "a context that is too long": (error(400, "my secret is mauve", "context_length_exceeded"), 400, None),
    "broken": (error(500, "The server had an error", "server_error"), 500, None),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_its_own_errors_are_told_as_it_said_them(server: OpenAIServer, name: str) -> None:
    script, status, after = REFUSALS[name]
    server.always = script
    async with remote(server.url) as engine:
        failed, told, lines = await failure(engine)
    assert isinstance(failed, EngineRefused)
    assert (failed.status, failed.retry_after, told) == (status, after, [])
    assert set(failed.body) == {"error"}
    [line] = lines
    assert (line["event"], line["engine"], line["status"]) == ("engine_refused", server.url, status)
    assert line["code"] == failed.body["error"]["code"]
    assert "mauve" not in str(line)


@pytest.mark.parametrize("code", [None, 7, ["mauve"], "my secret is mauve", "x" * 1_000])
async def test_a_code_that_is_none_is_not_logged(server: OpenAIServer, code: Any) -> None:
    server.always = whole({"error": {"message": "no", "code": code, "type": code}}, 400)
    async with remote(server.url) as engine:
        _, _, [line] = await failure(engine)
    assert "code" not in line or line["code"] == "7"


async def test_an_error_before_done_is_a_failure_told_as_it_was_said(server: OpenAIServer) -> None:
    said = {"error": {"message": "out of memory", "type": "server_error", "code": None}}
    for pieces in ([], PIECES[:2]):
        server.then(streaming(*pieces, said))
        async with remote(server.url) as engine:
            failed, told, lines = await failure(engine)
        assert isinstance(failed, EngineRefused)
        assert (failed.status, failed.body, len(told)) == (500, said, len(pieces))
        assert (lines[0]["event"], lines[0]["engine"]) == ("engine_refused", server.url)


async def test_an_error_within_a_stream_that_names_its_status_has_it(server: OpenAIServer) -> None:
    server.then(streaming({"error": {"message": "no such grammar", "type": "BadRequestError", "code": 400}}))
    async with remote(server.url) as engine:
        failed, _, _ = await failure(engine)
    assert isinstance(failed, EngineRefused)
    assert failed.status == 400


async def test_a_field_error_that_is_null_is_none(server: OpenAIServer) -> None:
    server.then(streaming({"choices": [], "error": None}, *PIECES))
    async with remote(server.url) as engine:
        assert text(await documents(engine, STREAM)) == "Grüß Gott, I am number 0."


async def test_a_connection_is_used_again_after_a_stream(server: OpenAIServer) -> None:
    async with remote(server.url, clock=ManualClock()) as engine:
        for _ in range(4):
            await documents(engine, STREAM)
            await documents(engine)
        assert len({asked.port for asked in server.asked}) == 1


async def test_a_connection_that_does_not_end_after_done_is_not_waited_for(server: OpenAIServer) -> None:
    server.then(streaming(*PIECES, b"data: [DONE]\n\n", end="silent"))
    async with remote(server.url) as engine:
        assert len(await documents(engine, STREAM)) == len(PIECES)
        await server.asked[0].gone.wait()


async def test_an_error_within_a_stream_about_our_key_is_not_the_clients(server: OpenAIServer) -> None:
    server.then(streaming({"error": {"message": "no such key", "code": 401}}))
    async with remote(server.url) as engine:
        failed, _, _ = await failure(engine)
    assert getattr(failed, "status", None) == 500


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r\n\r\n"])
async def test_the_end_may_come_without_its_last_line(server: OpenAIServer, end: bytes) -> None:
    server.then(streaming(*PIECES, end, done=False))
    async with remote(server.url) as engine:
        assert len(await documents(engine, STREAM)) == len(PIECES)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (streaming(*PIECES, done=False), "broke off its answer"),
        (streaming(*PIECES[:2], end="cut"), "broke off its answer"),
        (streaming(*PIECES[:2], b"data: {\n\n"), "can't be read"),
        (streaming(*PIECES[:2], {"error": {"message": "no"}}), "answered 500"),
    ],
)
async def test_what_began_to_be_told_is_not_asked_for_again_elsewhere(
    pair: tuple[OpenAIServer, OpenAIServer, RemoteEngine], script: Script, said: str
) -> None:
    one, other, engine = pair
    one.then(script)
    failed, told, _ = await failure(engine)
    assert said in str(failed)
    assert len(told) >= 2
    assert not other.asked


@pytest.mark.parametrize(
    ("script", "held"),
    [
        (cut, True),
        (raw(HTML.encode()), True),
        (error(503, "loading"), True),
        (error(529, "overloaded"), True),
        (raw(HTML.encode(), status=502), True),
        (error(401, "wrong key"), True),
        (streaming(b"data: {\n\n"), True),
        (error(500, "a bug"), False),
        (error(429, "too many"), False),
        (raw(HTML.encode(), status=429), False),
        (streaming({"error": {"message": "no"}}), False),
    ],
)
async def test_another_is_asked_before_the_first_word_and_only_what_is_its_fault_is_held_against_one(
    pair: tuple[OpenAIServer, OpenAIServer, RemoteEngine], script: Script, held: bool
) -> None:
    one, other, engine = pair
    one.always = script
    for _ in range(4):
        assert text(await documents(engine, STREAM)) == "Grüß Gott, I am number 0."
    assert (len(one.asked), len(other.asked)) == (3 if held else 4, 4)


@pytest.mark.parametrize("script", [error(400, "too long"), error(404, "no such model"), raw(b"too big", status=413)])
async def test_what_the_request_is_to_blame_for_is_asked_once_and_held_against_nobody(
    pair: tuple[OpenAIServer, OpenAIServer, RemoteEngine], script: Script
) -> None:
    one, other, engine = pair
    one.always = script
    for _ in range(5):
        failed, _, _ = await failure(engine)
        assert getattr(failed, "status", None) in (400, 404, 413)
    assert (len(one.asked), len(other.asked), engine.replicas.away) == (5, 0, None)


async def test_where_everybody_refuses_the_last_one_is_told(
    pair: tuple[OpenAIServer, OpenAIServer, RemoteEngine],
) -> None:
    one, other, engine = pair
    one.then(error(429, "one", retry_after="1"))
    other.then(error(429, "other", retry_after="2"))
    failed, _, lines = await failure(engine)
    assert isinstance(failed, EngineRefused)
    assert (failed.body["error"]["message"], failed.retry_after) == ("other", "2")
    assert [line["engine"] for line in lines] == [one.url, other.url]


# patience


async def silent(
    engine: RemoteEngine, clock: ManualClock, server: OpenAIServer, seconds: float, asked: Any
) -> tuple[Exception, list[Any], list[Any]]:
    """The failure of an engine that says nothing for so long."""
    failing = asyncio.create_task(failure(engine, asked))
    await until(lambda: len(server.asked) == 1)
    await clock.advance(seconds)
    return await failing


@pytest.mark.parametrize("asked", [STREAM, request()])
async def test_an_engine_that_never_says_a_word(server: OpenAIServer, asked: Any) -> None:
    clock = ManualClock()
    server.then(silence)
    async with remote(server.url, clock=clock) as engine:
        failed, _, [line] = await silent(engine, clock, server, 60, asked)
        assert isinstance(failed, EngineFailed)
        assert (str(failed), failed.status) == ("the engine said nothing for 60 s; try again", 504)
        assert (line["engine"], line["error"]) == (server.url, "silent for 60 s")
        await server.asked[0].gone.wait()


async def test_an_engine_that_stops_in_the_middle(server: OpenAIServer) -> None:
    clock, told = ManualClock(), []
    server.then(streaming(PIECES[0], end="silent"))
    async with remote(server.url, clock=clock) as engine:
        with engine.admit() as place:
            answer = aiter(place.begin(STREAM))
        told.append(await anext(answer))
        begun = clock.timeouts
        rest = asyncio.create_task(anext(answer, None))
        await until(lambda: clock.timeouts == begun + 1)
        await clock.advance(29)
        assert not rest.done()
        await clock.advance(1)
        with pytest.raises(EngineFailed, match="nothing for 30 s"):
            await rest


@pytest.mark.parametrize("asked", [STREAM, request()])
async def test_signs_of_life_are_not_a_word(server: OpenAIServer, asked: Any) -> None:
    """Comments, and blanks before a document, do not make the wait for the first word any longer."""
    clock, alive = ManualClock(), asyncio.Event()

    async def lively(http: Any, body: Any) -> Any:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(http)
        while True:
            await response.write(b": alive\n\n" if body.get("stream") else b" \n")
            await alive.wait()
            alive.clear()

    server.then(lively)
    async with remote(server.url, clock=clock) as engine:
        failing = asyncio.create_task(failure(engine, asked))
        # a stream is waited for piece by piece: the head, the first sign of life, the next; all else at once
        for waits in (3, 4, 5) if asked is STREAM else (1, 1, 1):
            await until(lambda waits=waits: clock.timeouts == waits)  # type: ignore[misc]
            await clock.advance(20)
            alive.set()
        failed, _, _ = await failing
        assert str(failed) == "the engine said nothing for 60 s; try again"


async def test_an_address_where_nobody_takes_the_call_can_not_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CONNECT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for line in (first, second):  # nobody takes these: the next one waits outside
            line.setblocking(False)
            line.connect_ex(full.getsockname())
        async with remote(f"http://127.0.0.1:{full.getsockname()[1]}/v1", clock=CLOCK) as engine:
            failed, _, [line] = await failure(engine)
    assert str(failed) == "the engine can't be reached; try again"
    assert "Timeout" in line["error"]


async def test_an_address_that_is_closed_is_named(server: OpenAIServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with remote(f"http://127.0.0.1:{port}/v1") as engine:
        failed, _, [line] = await failure(engine)
    assert isinstance(failed, EngineFailed)
    assert (str(failed), failed.status) == ("the engine can't be reached; try again", 503)
    assert str(port) in line["error"]


async def test_bytes_that_are_no_http_are_not_quoted() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]}")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nmy secret is mauve\r\n")
        await writer.drain()
        writer.close()

    speaking = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with speaking, remote(f"http://127.0.0.1:{speaking.sockets[0].getsockname()[1]}/v1") as engine:
        failed, _, [line] = await failure(engine, request())
    assert "mauve" not in f"{failed}{line}"


@pytest.mark.parametrize("asked", [STREAM, request()])
async def test_an_answer_without_an_end_is_cut_off(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, asked: Any
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1_000)
    server.then(streaming(*PIECES * 20) if asked.stream else raw(gzip.compress(b" " * 2_000), content_encoding="gzip"))
    async with remote(server.url) as engine:
        failed, _, [line] = await failure(engine, asked)
    assert (str(failed), line["error"]) == ("the engine's answer is too long", "an answer of more than 1,000 bytes")
