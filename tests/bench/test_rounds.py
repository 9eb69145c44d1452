"""A contestant's turn, with the upstream itself as contestant; and what is told of turns."""

from __future__ import annotations

import json
import math
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import contestants
from bench.peers.contestants import BARE, CONTESTANTS, Absent, Contestant, Running, Start, started
from bench.peers.load import Counted
from bench.peers.profiling import top
from bench.peers.report import Results
from bench.peers.rounds import Asked, Turn, Upstream, take_turn, ways

UPSTREAM = Path(contestants.__file__).with_name("upstream.py")
ITSELF = Contestant(
    "itself", "none", lambda: "1", lambda port, _, __: Start([sys.executable, "-P", str(UPSTREAM), f"--port={port}"])
)


@pytest.mark.slow
def test_a_gateways_turn_has_the_cpu_and_the_memory_of_its_process(upstream: Upstream, tmp_path: Path) -> None:
    running = started(BARE, upstream.port, tmp_path, None)
    try:
        running.wait_ready()
        turn = take_turn(running, upstream, ways([8], 20), 0.5, None, 0)
    finally:
        running.close()
    assert all(one.counted.errors == 0 for one in turn.asked.values())
    for one in (turn.asked["plain"], turn.asked["streams"]):
        assert 0 < (one.cpu_s or 0) < (one.counted.seconds + 1) * (os.cpu_count() or 1)
    assert turn.memory_mb > 5


@pytest.fixture
def contestant(upstream: Upstream, tmp_path: Path) -> Iterator[Running]:
    running = started(ITSELF, upstream.port, tmp_path, None)
    running.wait_ready()
    yield running
    running.close()


@pytest.mark.slow
def test_what_gives_answers_that_the_upstream_did_not_give_is_no_gateway(
    upstream: Upstream, contestant: Running
) -> None:
    with pytest.raises(SystemExit, match="more answers than the upstream gave"):
        take_turn(contestant, upstream, ways([2], 20), 0.1, None, 0)


@pytest.mark.slow
def test_a_turn_asks_in_every_way_and_direct_is_no_process(upstream: Upstream) -> None:
    turn = take_turn(None, upstream, ways([4, 2], 20), 0.1, None, 0)
    assert list(turn.asked) == ["plain", "streams", "rate", "plain, 2 connections"]
    assert all(one.counted.answers > 0 and one.cpu_s is None for one in turn.asked.values())


@pytest.mark.slow
def test_a_rate_is_not_tried_on_who_answers_less(upstream: Upstream) -> None:
    assert "rate" not in take_turn(None, upstream, ways([1], 1e9), 0.1, None, 0).asked


@pytest.mark.slow
def test_who_does_not_start_is_absent_and_its_last_words_are_told(tmp_path: Path) -> None:
    broken = Start([sys.executable, "-c", "raise SystemExit('no such model')"])
    with pytest.raises(Absent, match="no such model"):
        Running(broken, 1, tmp_path, None).wait_ready()


@pytest.mark.parametrize("one", CONTESTANTS[2:], ids=lambda one: one.name)
def test_a_peer_that_was_not_fetched_says_how_to(
    one: Contestant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROOT", "PEERS", "PORTKEY"):
        monkeypatch.setattr(contestants, name, tmp_path / "nothing")
    with pytest.raises(Absent, match="make peers"):
        one.start(1, 2, tmp_path)


def turn(per_cpu_s: float, p50_ms: float, slow: bool = False) -> Turn:
    asked = Asked(Counted(int(per_cpu_s), 0, 1.0, p50_ms, 2 * p50_ms, 3 * p50_ms), 1.0)
    found = {"plain": asked, "streams": asked} | ({} if slow else {"rate": asked})
    return Turn(found, memory_mb=50.0)


DIRECT = Turn({name: Asked(Counted(9, 0, 1.0, 0.5, 1.0, 2.0), None) for name in ("plain", "streams", "rate")}, math.nan)
RESULTS = Results(
    ["direct", "ours", "ours again", "other"],
    [
        {"direct": DIRECT, "ours": turn(800, 1.0), "ours again": turn(400, 1.0), "other": turn(100, 0, slow=True)},
        {"direct": DIRECT, "ours": turn(600, 2.0), "ours again": turn(600, 1.0), "other": turn(200, 0, slow=True)},
    ],
    (),
)


def test_ratios_are_taken_round_by_round() -> None:
    assert RESULTS.ratios("ours", "other", "plain") == [3.0, 8.0]
    assert RESULTS.ratios("ours", "ours again", "plain") == [1.0, 2.0]
    assert any("(this is the noise)" in said for said in RESULTS.remarks())


def test_what_is_added_is_added_to_direct_in_the_same_round() -> None:
    assert RESULTS.added_ms("ours", lambda one: one.p50_ms) == [0.5, 1.5]
    assert RESULTS.added_ms("other", lambda one: one.p50_ms) == []
    assert RESULTS.median("ours", "plain", lambda one: one.cpu_ms) == pytest.approx((1e3 / 800 + 1e3 / 600) / 2)


def test_the_table_the_document_and_the_plot_have_everybody_in_them() -> None:
    assert RESULTS.table(500).row_count == 4
    document = json.dumps(RESULTS.document(), allow_nan=False)
    assert len(json.loads(document)["rounds"]) == 2
    words = [text.text for text in ElementTree.fromstring(RESULTS.plot()).iter("{http://www.w3.org/2000/svg}text")]
    assert {"ours", "ours again", "other"} <= set(words)


def test_a_profile_tells_the_own_share_and_that_with_all_that_is_called() -> None:
    told = top(["main (a.py:1);work (b.py:2) 3", "main (a.py:1) 1"])
    assert told.splitlines()[1].split() == ["75.0%", "75.0%", "work", "(b.py)"]
    assert told.splitlines()[2].split() == ["25.0%", "100.0%", "main", "(a.py)"]
