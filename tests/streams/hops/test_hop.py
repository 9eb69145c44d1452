"""What a hop does with a run that can't be handled: again, or the end of the process; what it chokes on is buried alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from feedback.intake.edge import Record
from feedback.topics import DEAD_LETTERS
from streams.dead_letters import DeadLetter, _decode
from streams.hops import hop
from streams.hops.hop import Ack, Run, handle, sift
from streams.log import Stored
from tests.fakes import CLOCK


class Sent:
    """A producer that keeps what it was given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(self, records: Sequence[Record]) -> None:
        self.records.extend(records)

    def letters(self) -> list[DeadLetter]:
        return [_decode(record.value) for record in self.records if record.topic == DEAD_LETTERS]


def run_of(*values: bytes) -> list[Stored]:
    return [Stored("a", 0, offset, 0, b"k", value, ()) for offset, value in enumerate(values)]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop, "FIRST_PAUSE_S", 0.0)


async def test_a_run_that_works_is_acknowledged_once() -> None:
    acks: list[int] = []

    async def work(run: Run, ack: Ack) -> None:
        ack()

    await handle(run_of(b"1", b"2"), lambda: acks.append(1), work, CLOCK)
    assert acks == [1]


async def test_a_passing_fault_is_tried_again() -> None:
    tries = 0
    acks: list[int] = []

    async def work(run: Run, ack: Ack) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("away for a moment")
        ack()

    await handle(run_of(b"1", b"2"), lambda: acks.append(1), work, CLOCK)
    assert acks == [1]


async def test_what_goes_wrong_again_and_again_is_raised_and_nothing_is_acknowledged() -> None:
    acks: list[int] = []

    async def work(run: Run, ack: Ack) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        await handle(run_of(b"1", b"2"), lambda: acks.append(1), work, CLOCK)
    assert acks == []


def digest(record: Stored) -> bytes:
    if record.value == b"poison":
        raise ValueError("can't digest this")
    return record.value


async def test_the_poison_record_alone_is_buried_with_its_bytes_and_place() -> None:
    sent = Sent()
    digested = await sift(run_of(b"1", b"poison", b"3"), digest, sent, CLOCK.now_us())
    assert [(record.offset, value) for record, value in digested] == [(0, b"1"), (2, b"3")]
    (letter,) = sent.letters()
    assert (letter.value, letter.topic, letter.partition, letter.offset) == (b"poison", "a", 0, 1)
    assert (letter.reason, letter.attempts) == ("poison", 1)
    assert "can't digest this" in letter.message


async def test_a_record_that_comes_alone_is_buried_too() -> None:
    sent = Sent()
    assert await sift(run_of(b"poison"), digest, sent, CLOCK.now_us()) == []
    assert len(sent.letters()) == 1


async def test_when_every_record_of_several_is_poison_nothing_is_buried() -> None:
    sent = Sent()
    with pytest.raises(ValueError, match="can't digest this"):
        await sift(run_of(b"poison", b"poison"), digest, sent, CLOCK.now_us())
    assert sent.records == []


async def test_poison_is_buried_before_anything_that_stands_after_it_is_kept() -> None:
    class Broken(Sent):
        async def send(self, records: Sequence[Record]) -> None:
            raise OSError("the broker is away")

    with pytest.raises(OSError, match="away"):
        await sift(run_of(b"poison", b"2"), digest, Broken(), CLOCK.now_us())
