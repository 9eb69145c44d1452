"""The load of bench/gateway.py: what it asks, what it takes for an answer, and how it counts."""

from __future__ import annotations

import json
import math
import socket
import threading
from pathlib import Path

import pytest

from bench.peers.load import Answer, Load, Plan, percentile, request_of
from bench.peers.rounds import Upstream
from bench.peers.upstream import take


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    hundred = [float(value) for value in range(100, 0, -1)]
    assert [percentile(hundred, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("stream", [False, True])
def test_requests_have_a_history_that_comes_again_and_a_message_that_does_not(stream: bool) -> None:
    request = request_of(Plan(80, 1, stream=stream, headers={"x-own": "1"}))
    first, later = (take(request(number)) for number in (3, 53))
    assert first is not None
    assert later is not None
    one, other = json.loads(first.body), json.loads(later.body)
    assert one["messages"][:-1] == other["messages"][:-1]
    assert one["messages"][-1] != other["messages"][-1]
    assert one.get("stream", False) == stream
    assert b"x-own: 1\r\n" in request(3)


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n"chat.completion"',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n"chat.completion"\r\n0\r\n\r\n',
    ],
    ids=["length", "chunked"],
)
def test_an_answer_is_complete_with_its_last_byte(raw: bytes) -> None:
    answer = Answer()
    assert [answer.add(raw[at : at + 1]) for at in range(len(raw))] == [False] * (len(raw) - 1) + [True]
    assert answer.fault(stream=False) == ""


def test_an_answer_that_is_an_error_or_a_stream_that_broke_off_is_a_fault() -> None:
    assert "429" in Answer(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").fault(stream=False)
    assert Answer(b'HTTP/1.1 200 OK\r\n\r\ndata: {"error"}').fault(stream=True)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_load_counts_what_was_answered(upstream: Upstream, stream: bool, tmp_path: Path) -> None:
    before = upstream.served()
    counted = Load(Plan(upstream.port, 0.05, 4, stream=stream, warm_s=0.0, least=50, ids=str(tmp_path / "ids"))).run()
    assert counted.answers >= 50
    assert counted.errors == 0
    assert 0 < counted.p50_ms <= counted.p99_ms <= counted.most_ms
    ids = (tmp_path / "ids").read_text().split()
    assert len(set(ids)) == len(ids) >= counted.answers
    assert upstream.served() - before >= len(ids)


@pytest.mark.slow
def test_a_load_at_a_rate_asks_so_often_however_fast_the_answers_are(upstream: Upstream) -> None:
    before = upstream.served()
    Load(Plan(upstream.port, 0.5, rate=200, warm_s=0.0, seed=1)).run()
    assert 10 < upstream.served() - before < 200


@pytest.mark.slow
def test_a_refusal_is_an_error_and_not_an_answer(upstream: Upstream) -> None:
    counted = Load(Plan(upstream.port, 0.05, 1, warm_s=0.0, path="/v1/nothing")).run()
    assert counted.answers == 0
    assert counted.errors > 0
    assert "404" in counted.first_error


def test_a_lost_connection_is_an_error_and_the_next_one_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        counted = Load(Plan(listening.getsockname()[1], 0.1, 1, warm_s=0.0)).run()
        listening.shutdown(socket.SHUT_RDWR)
    assert counted.answers == 0
    assert counted.errors > 1
