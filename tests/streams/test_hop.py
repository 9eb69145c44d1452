"""What a hop does with a run that can't be handled: again, then alone, then buried or the end of the process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from feedback.edge import Record
from streams import hop
from streams.dead_letters import TOPIC, DeadLetter, _decode
from streams.hop import Ack, Run, handle
from streams.log import Stored


class Sent:
    """A producer that keeps what it was given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(self, records: Sequence[Record]) -> None:
        self.records.extend(records)

    def letters(self) -> list[DeadLetter]:
        return [_decode(record.value) for record in self.records if record.topic == TOPIC]


def run_of(*values: bytes) -> list[Stored]:
    return [Stored("a", 0, offset, 0, b"k", value, ()) for offset, value in enumerate(values)]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop, "FIRST_PAUSE_S", 0.0)


async def test_a_run_that_works_is_acknowledged_once() -> None:
    acks: list[int] = []

    async def work(run: Run, ack: Ack) -> None:
        ack()

    await handle(run_of(b"1", b"2"), lambda: acks.append(1), "h", work, Sent())
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

    sent = Sent()
    await handle(run_of(b"1", b"2"), lambda: acks.append(1), "h", work, sent)
    assert (acks, sent.records) == ([1], [])


async def test_the_poison_record_alone_is_buried_with_its_bytes_and_place() -> None:
    done: list[bytes] = []
    acks: list[int] = []

    async def work(run: Run, ack: Ack) -> None:
        if any(record.value == b"poison" for record in run):
            raise ValueError("can't digest this")
        done.extend(record.value for record in run)
        ack()

    sent = Sent()
    await handle(run_of(b"1", b"poison", b"3"), lambda: acks.append(1), "h", work, sent)
    assert done == [b"1", b"3"]
    assert acks == [1]
    (letter,) = sent.letters()
    assert (letter.value, letter.topic, letter.partition, letter.offset) == (b"poison", "a", 0, 1)
    assert (letter.reason, letter.attempts) == ("poison", hop.ATTEMPTS)
    assert "can't digest this" in letter.message


async def test_when_every_record_fails_nothing_is_buried_and_nothing_acknowledged() -> None:
    acks: list[int] = []

    async def work(run: Run, ack: Ack) -> None:
        raise OSError("the disk is full")

    sent = Sent()
    with pytest.raises(OSError, match="disk is full"):
        await handle(run_of(b"1", b"2"), lambda: acks.append(1), "h", work, sent)
    assert (acks, sent.records) == ([], [])


async def test_the_run_is_acknowledged_only_when_the_last_late_acknowledgement_came() -> None:
    acks: list[int] = []
    later: list[Ack] = []

    async def work(run: Run, ack: Ack) -> None:
        if len(run) > 1:
            raise ValueError("one by one, please")
        if run[0].value == b"poison":
            raise ValueError("no")
        later.append(ack)

    await handle(run_of(b"1", b"poison", b"3"), lambda: acks.append(1), "h", work, Sent())
    assert acks == []
    for ack in later:
        ack()
    assert acks == [1]
