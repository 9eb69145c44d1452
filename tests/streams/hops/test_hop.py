"""What a hop does with a run that can't be handled: again, or the end of the process; what it chokes on is set aside alone."""

from __future__ import annotations

import pytest

from streams.hops import hop
from streams.hops.hop import Ack, Run, handle, sift
from streams.log import Stored
from tests.fakes import CLOCK


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


def sound() -> Stored:
    return run_of(b"sound")[0]


def test_the_poison_record_alone_is_set_aside_with_its_error() -> None:
    digested, poison = sift(run_of(b"1", b"poison", b"3"), digest, sound)
    assert [(record.offset, value) for record, value in digested] == [(0, b"1"), (2, b"3")]
    ((record, error),) = poison
    assert (record.offset, str(error)) == (1, "can't digest this")


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError, OverflowError, MemoryError, RuntimeError])
@pytest.mark.parametrize("records", [1, 2])
def test_a_run_of_nothing_but_poison_is_set_aside_whatever_is_raised(error: type[Exception], records: int) -> None:
    def choke(record: Stored) -> bytes:
        if record.value == b"poison":
            raise error
        return record.value

    digested, poison = sift(run_of(*[b"poison"] * records), choke, sound)
    assert digested == []
    assert [type(raised) for _, raised in poison] == [error] * records


@pytest.mark.parametrize("records", [1, 2])
def test_when_not_even_a_sound_record_can_be_digested_nothing_is_set_aside(records: int) -> None:
    def broken(record: Stored) -> bytes:
        raise KeyError(record.value)

    with pytest.raises(KeyError, match="sound"):
        sift(run_of(*[b"poison"] * records), broken, sound)
