"""Each record is sent to the dead letters once while its run is tried, and counted once it is done."""

from __future__ import annotations

import pytest

from feedback.intake.contract import Rejected
from streams.dead_letters import DeadLetter, _decode
from streams.hops.burial import Burial, poison
from tests.fakes import CLOCK, MemoryProducer
from tests.streams.hops.test_hop import run_of

RUN = run_of(b"1", b"2", b"3")
REASON = Rejected("bad_json", "", "no valid JSON")


def letters(producer: MemoryProducer) -> list[DeadLetter]:
    return [_decode(record.value) for record in producer.records]


async def test_a_letter_has_the_bytes_the_place_and_the_reason() -> None:
    producer = MemoryProducer()
    await Burial(producer, CLOCK).bury([(RUN[1], REASON), *poison([(RUN[2], KeyError("role"))])], attempts=4)
    one, two = letters(producer)
    assert (one.value, one.topic, one.partition, one.offset) == (b"2", "a", 0, 1)
    assert (one.reason, one.message, one.attempts) == ("bad_json", "no valid JSON", 4)
    assert (two.reason, two.message, two.offset) == ("poison", "KeyError: 'role'", 2)


async def test_what_is_buried_is_no_longer_left_until_the_run_is_done() -> None:
    burial = Burial(MemoryProducer(), CLOCK)
    assert list(burial.left(RUN)) == RUN
    await burial.bury([(RUN[1], REASON)])
    assert list(burial.left(RUN)) == [RUN[0], RUN[2]]
    assert burial.done(RUN) == 1
    assert list(burial.left(RUN)) == RUN
    assert burial.done(RUN) == 0


async def test_what_could_not_be_sent_is_not_buried() -> None:
    producer = MemoryProducer()
    producer.broken = True
    burial = Burial(producer, CLOCK)
    with pytest.raises(OSError, match="no space"):
        await burial.bury([(RUN[1], REASON)])
    assert list(burial.left(RUN)) == RUN


async def test_other_bytes_at_the_same_place_are_another_record() -> None:
    burial = Burial(MemoryProducer(), CLOCK)
    await burial.bury([(RUN[1], REASON)])
    anew = run_of(b"7", b"8", b"9")
    assert list(burial.left(anew)) == anew
