"""Dead letters: what could not be taken in, kept with its original bytes and the reason, on the topic `dead.letters`.

They are the raw zone: never redacted, never exported. `redrive` sends the original bytes through the edge again; an event
keeps its identity, so redriving one that got through after all adds nothing. `purge` removes their bytes for good; what is
left says where each stood and what it hashes to, so that the audit misses nothing.
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

    @property
    def refused(self) -> Refused:
        """What was refused: however often it is sent, it is one letter, if it says where it stood."""
        said = self.value if self.digest is None else self.digest.encode()
        if self.offset is not None:
            return self.topic, self.partition, self.offset, said
        return (self.file, self.line, None, said) if self.file is not None else (self.id, None, None, said)


Refused = tuple[str | None, int | None, int | None, bytes]
"""A place on a topic, or a line of a file, and the bytes: a topic or file that was made anew may have others there."""


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
    first: a hop that was killed, or got no answer, sends its letters again. Those that were purged are not among them."""
    done = {record.key.decode(): bool(record.value) for record in scan(log, REDRIVEN)}
    seen: set[int] = set()
    for record in scan(log, DEAD_LETTERS, starts):
        letter = decode(record)
        if done.get(letter.id):
            continue
        what = hash(letter.refused)  # of millions, 8 bytes each
        if what not in seen:
            seen.add(what)
            yield msgspec.structs.replace(letter, redriven=letter.id in done)


def lines_kept(log: Log) -> set[int]:
    """The lines of files that have a letter, by the hash of what was `refused`."""
    return {hash(letter.refused) for letter in read(log) if letter.file is not None}


def purge(log: Log, letters: Iterable[DeadLetter]) -> int:
    """Remove letters for good, and whatever was sent of them twice; returns how many records of the log they were.

    Marked first: if this is cut short they are gone for everybody who reads, and the next purge removes the bytes. A log whose
    records can't be removed one by one (Kafka) lets them go with the topic's retention.
    """
    chosen = {hash(letter.refused) for letter in letters}
    purged = {record.key for record in scan(log, REDRIVEN) if record.value}
    places = dict[int, list[int]]()
    marks = list[Record]()
    for record in scan(log, DEAD_LETTERS):
        letter = decode(record)
        name = letter.id.encode()
        if name not in purged and hash(letter.refused) not in chosen:
            continue
        places.setdefault(record.partition, []).append(record.offset)
        if name not in purged:
            marks.append(Record(REDRIVEN, name, msgspec.json.encode(_without_bytes(letter))))
    log.append(marks)
    log.forget(DEAD_LETTERS, places)
    return len(marks)


def purged(log: Log) -> Iterator[DeadLetter]:
    """Letters that were purged, without their bytes."""
    for record in scan(log, REDRIVEN):
        if record.value:
            yield _decode(record.value)


def _without_bytes(letter: DeadLetter) -> DeadLetter:
    """What the audit goes by. What was wrong is not kept: a sentence may quote what was sent."""
    digest = letter.digest or hashlib.sha256(letter.value).hexdigest()
    return msgspec.structs.replace(letter, value=b"", digest=digest, field="", message="", redriven=True)


def decode(record: Stored) -> DeadLetter:
    """The letter that a record holds; whether it was redriven it does not say."""
    return msgspec.structs.replace(_decode(record.value), id=f"{record.partition}-{record.offset}")


def redrive(
    log: Log, edge: Edge, letters: Iterable[DeadLetter], now_us: int
) -> list[tuple[DeadLetter, Rejected | None]]:
    """Send letters through the edge again; each comes back with None, or with why it was refused once more."""
    outcome: list[tuple[DeadLetter, Rejected | None]] = []
    for letter in letters:
        made = edge.record(letter.value, now_us, "ingest" if letter.file is None else "file")
        if isinstance(made, Rejected):
            outcome.append((letter, made))
        else:
            log.append([made, Record(REDRIVEN, letter.id.encode(), b"")])
            outcome.append((letter, None))
    return outcome


def selection(
    reason: str | None, since_us: int | None, ids: tuple[str, ...], until_us: int | None = None, redriven: bool = False
) -> Callable[[DeadLetter], bool]:
    """Which letters are meant: of this reason, this recent and this old, of these ids; not those that were redriven, unless
    told so."""

    def selected(letter: DeadLetter) -> bool:
        return (
            (redriven or not letter.redriven)
            and (reason is None or letter.reason == reason)
            and (since_us is None or letter.at_us >= since_us)
            and (until_us is None or letter.at_us <= until_us)
            and (not ids or letter.id in ids)
        )

    return selected
