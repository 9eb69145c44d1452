"""Dead letters: one for each record that was refused, however often it was sent."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.topics import DEAD_LETTERS, TURNS
from streams import dead_letters
from streams.app import GROUPS
from streams.care.audit import audit
from streams.care.migrate import migrate
from streams.dead_letters import MAX_MESSAGE, dead_letter
from streams.log import MAX_RECORD_BYTES, scan
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK
from tests.streams.test_worker import KEY, drain

REASON = Rejected("bad_json", "", "no valid JSON")


def letter(offset: int, value: bytes = b"{no json", at_us: int = 0) -> Record:
    return dead_letter(REASON, value, at_us, topic=TURNS, partition=0, offset=offset)


def log_in(root: Path) -> SqliteLog:
    log = SqliteLog(root / "log.db", CLOCK, partitions=2)
    log.create_topic(DEAD_LETTERS)
    return log


def test_a_letter_that_was_sent_again_is_shown_once_and_the_first_one_is(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append([letter(1, at_us=1), letter(2, at_us=2), letter(1, at_us=3)])
    assert [(found.offset, found.at_us) for found in dead_letters.read(log)] == [(1, 1), (2, 2)]


def test_other_bytes_from_the_same_place_are_another_letter(tmp_path: Path) -> None:
    """The topic was made anew, or the letters came from another log."""
    log = log_in(tmp_path)
    log.append([letter(1), letter(1, b"[other bytes")])
    assert len(list(dead_letters.read(log))) == 2


def test_a_line_of_a_file_that_was_replayed_twice_is_one_letter(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    line = partial(dead_letter, REASON, b"{no json", 0)
    log.append([line(file="a.jsonl", line=7)] * 2 + [line(file="a.jsonl", line=8), line(file="b.jsonl", line=7)])
    assert [(found.file, found.line) for found in dead_letters.read(log)] == [
        ("a.jsonl", 7),
        ("a.jsonl", 8),
        ("b.jsonl", 7),
    ]


async def test_the_audit_misses_nothing_of_what_was_purged(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    await drain(tmp_path, log, [Record(TURNS, b"k", b"{no json")])
    assert dead_letters.purge(log, dead_letters.read(log)) == 1
    assert list(dead_letters.read(log)) == []
    findings = list(audit(log, Facts(tmp_path / "facts")))
    assert sum(finding.dead_letters for finding in findings) == 1
    assert all(finding.good for finding in findings)
    assert [(gone.value, gone.message) for gone in dead_letters.purged(log)] == [(b"", "")]


def test_whatever_was_sent_twice_is_purged_together(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append([letter(1, at_us=1), letter(2, at_us=2), letter(1, at_us=3)])
    first, _ = dead_letters.read(log)
    assert dead_letters.purge(log, [first]) == 2
    assert [found.offset for found in dead_letters.read(log)] == [2]
    assert [dead_letters.decode(stored).offset for stored in scan(log, DEAD_LETTERS)] == [2]


def test_a_purge_that_was_cut_short_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_in(tmp_path)
    log.append([letter(1)])
    with monkeypatch.context() as patched:
        patched.setattr(log, "forget", lambda *_: 0)  # what a cluster does, too
        dead_letters.purge(log, dead_letters.read(log))
    assert list(dead_letters.read(log)) == []
    assert len(list(scan(log, DEAD_LETTERS))) == 1
    assert dead_letters.purge(log, []) == 0
    assert list(scan(log, DEAD_LETTERS)) == []


async def test_the_audit_counts_a_letter_that_came_twice_once(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    await drain(tmp_path, log, [Record(TURNS, b"k", b"{no json")])
    (place,) = [place for place, end in log.ends().items() if place[0] == DEAD_LETTERS and end]
    (stored,) = log.read(*place, 0, 9)
    log.append([Record(DEAD_LETTERS, stored.key, stored.value)])
    findings = list(audit(log, Facts(tmp_path / "facts")))
    assert sum(finding.dead_letters for finding in findings) == 1
    assert all(finding.good for finding in findings)


def test_a_letter_that_was_redriven_does_not_come_back_because_it_was_sent_twice(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    source, target = log_in(tmp_path), log_in(tmp_path / "target")
    event = (
        b'{"event":"rating","event_id":"r","conversation_id":"c","turn_id":"t","occurred_at":1767268800,"source":"user",'
        b'"kind":"thumbs","value":true}'
    )
    source.append([letter(1, event), letter(1, event)])
    assert [
        outcome for _, outcome in dead_letters.redrive(source, Edge(KEY), dead_letters.read(source), CLOCK.now_us())
    ] == [None]
    assert [found.redriven for found in dead_letters.read(source)] == [True]
    migrate(source, target, GROUPS)
    assert list(dead_letters.read(target)) == []


def test_a_letter_of_whatever_size_fits_the_topic() -> None:
    reason = Rejected("poison", "", "x" * 3_000_000)
    made = dead_letter(reason, b"\xff" * MAX_RECORD_BYTES, 0, topic=TURNS, partition=0, offset=1)
    assert len(made.value) < MAX_RECORD_BYTES
    assert len(dead_letters._decode(made.value).message) < MAX_MESSAGE + 100
