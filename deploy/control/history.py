"""The history of decisions: who changed what, when and why. Append-only; each row's hash covers the row before it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from deploy.control import schema
from feedback.durable import canonical

GENESIS = "0" * 64
MOST = 2**31 - 1
"""No entry has a greater number: the column takes none."""


@dataclass(frozen=True)
class Entry:
    """One change. `subject` is a candidate's digest, a key, a training; None for the whole service."""

    at_us: int
    actor: str
    action: str
    subject: str | None
    before: str | None
    after: str | None
    reason: str
    data: dict[str, Any] | None = None
    """What the words say, as JSON values."""
    number: int = 0
    """Given by the history."""


def append(connection: Connection, entry: Entry) -> None:
    """Add the entry; within the transaction of the change that it tells of."""
    lock(connection)
    last = connection.execute(
        select(schema.history.c.id, schema.history.c.sha256).order_by(schema.history.c.id.desc()).limit(1)
    ).one_or_none()
    number, previous = (1, GENESIS) if last is None else (last.id + 1, last.sha256)
    connection.execute(
        insert(schema.history).values(id=number, **_fields(entry), sha256=_sha256(number, entry, previous))
    )


def read(
    connection: Connection, limit: int | None = None, subject: str | None = None, before: int | None = None
) -> Sequence[Entry]:
    """Entries, newest first; of one subject, or of all; those before a number, or all."""
    if subject is not None and not subject.isprintable():  # nothing is called so, and not every database takes it
        return []
    query = select(schema.history).order_by(schema.history.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(schema.history.c.subject == subject)
    if before is not None:
        query = query.where(schema.history.c.id < max(0, min(before, MOST)))
    return [_entry(row._asdict()) for row in connection.execute(query)]


def first_broken(connection: Connection) -> int | None:
    """Number of the first row that was changed, removed or put in afterwards; None where the chain is whole.

    The newest rows can be cut off without a trace here: keep the last hash elsewhere to see that.
    """
    previous = GENESIS
    for expected, row in enumerate(connection.execute(select(schema.history).order_by(schema.history.c.id)), 1):
        if row.id != expected or row.sha256 != _sha256(row.id, _entry(row._asdict()), previous):
            return expected
        previous = row.sha256
    return None


def lock(connection: Connection) -> None:
    """Changes happen one after another: this row's lock orders them (SQLite's write lock does so already)."""
    connection.execute(update(schema.serving).where(schema.serving.c.id == 1).values(id=1))


def _entry(row: dict[str, object]) -> Entry:
    return Entry(**{name: row[name] for name in FIELDS}, number=row["id"])  # type: ignore[arg-type]


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in FIELDS}


def _sha256(number: int, entry: Entry, previous: str) -> str:
    said = _fields(entry)
    if entry.data is None:  # as it was before there was any
        del said["data"]
    return hashlib.sha256(canonical([number, said, previous])).hexdigest()


FIELDS = tuple(field.name for field in dataclasses.fields(Entry) if field.name != "number")
