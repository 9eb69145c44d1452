"""Dead letters: what could not be taken in, kept with its original bytes and the reason, on the topic `dead.letters`.

They are the raw zone: never redacted, never exported. `redrive` sends the original bytes through the edge again; an event
keeps its identity, so redriving one that got through after all adds nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

import msgspec
from msgspec import Struct

from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.topics import DEAD_LETTERS, REDRIVEN
from streams.log import MAX_RECORD_BYTES, Log, Stored, scan


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One record that was refused, and where it stood: in a topic, or in a file's line."""

    reason: str
    """Code to count by: one of `contract.Code`."""
    field: str
    message: str
    at_us: int
    attempts: int
    version: str
    value: bytes
    digest: str | None = None
    """sha256 of all bytes, hex, where `value` is but the first of them."""
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    file: str | None = None
    line: int | None = None
    id: str = ""
    """`partition-offset` on the dead-letter topic; given by the log."""
    redriven: bool = False


VERSION = version("trimtab")
"""Looked up once: it is read from a file, and a whole run may be dead letters."""

MAX_VALUE_BYTES = (MAX_RECORD_BYTES - 20_000) * 3 // 4
"""Most bytes of a record that fit a letter, which is JSON and holds them as base64."""

MAX_MESSAGE = 2_000

_decode = msgspec.json.Decoder(DeadLetter).decode


def dead_letter(
    rejected: Rejected,
    value: bytes,
    at_us: int,
    *,
    attempts: int = 1,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
    file: str | None = None,
    line: int | None = None,
) -> Record:
    """The record to send for bytes that were refused; of a huge one the first bytes, and the digest of all."""
    message, digest = rejected.message[:MAX_MESSAGE], None
    if len(value) > MAX_VALUE_BYTES:
        digest = hashlib.sha256(value).hexdigest()
        value = value[:MAX_VALUE_BYTES]
        message = f"{message} (the first {MAX_VALUE_BYTES} bytes are kept)"
    letter = DeadLetter(
        reason=rejected.code,
        field=rejected.field[:MAX_MESSAGE],
        message=message,
        at_us=at_us,
        attempts=attempts,
        version=VERSION,
        value=value,
        digest=digest,
        topic=topic,
        partition=partition,
        offset=offset,
        file=file,
        line=line,
    )
    return Record(DEAD_LETTERS, value[:64], msgspec.json.encode(letter))


def read(log: Log, starts: dict[int, int] | None = None) -> Iterator[DeadLetter]:
    """Dead letters, from `starts` (offset by partition) or from the oldest kept. One for each record that was refused, the
    first: a hop that was killed, or got no answer, sends its letters again."""
    done = {record.key.decode() for record in scan(log, REDRIVEN)}
    seen: set[int] = set()
    for record in scan(log, DEAD_LETTERS, starts):
        letter = decode(record)
        if letter.offset is not None:
            place = hash((letter.topic, letter.partition, letter.offset, letter.value))  # of millions, 8 bytes each
            if place in seen:
                continue
            seen.add(place)
        yield msgspec.structs.replace(letter, redriven=letter.id in done)


def decode(record: Stored) -> DeadLetter:
    """The letter that a record holds; whether it was redriven it does not say."""
    return msgspec.structs.replace(_decode(record.value), id=f"{record.partition}-{record.offset}")


def redrive(
    log: Log, edge: Edge, letters: Iterable[DeadLetter], now_us: int
) -> list[tuple[DeadLetter, Rejected | None]]:
    """Send letters through the edge again; each comes back with None, or with why it was refused once more."""
    outcome: list[tuple[DeadLetter, Rejected | None]] = []
    for letter in letters:
        made = edge.record(letter.value, now_us)
        if isinstance(made, Rejected):
            outcome.append((letter, made))
        else:
            log.append([made, Record(REDRIVEN, letter.id.encode(), b"")])
            outcome.append((letter, None))
    return outcome


def selection(reason: str | None, since_us: int | None, ids: tuple[str, ...]) -> Callable[[DeadLetter], bool]:
    """Which letters are meant: those not yet redriven, of this reason, this recent, of these ids."""

    def selected(letter: DeadLetter) -> bool:
        return (
            not letter.redriven
            and (reason is None or letter.reason == reason)
            and (since_us is None or letter.at_us >= since_us)
            and (not ids or letter.id in ids)
        )

    return selected
