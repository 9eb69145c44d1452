"""Trainings in the control database: what was started and why, how it ended, and which one waits for a person's yes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, insert, select, update

from deploy.control import schema
from deploy.control.database import Database
from deploy.control.history import Entry, append, lock
from deploy.errors import Failed, Refused
from feedback.facts.reader import Positions

PREFIX = "training-"
"""A request is named `training-7` on the command line."""


@dataclass(frozen=True)
class Training:
    """One training. `outcome` is None while it runs."""

    id: int
    reason: str
    started_at_us: int
    ended_at_us: int | None = None
    outcome: Literal["done", "failed", "stopped"] | None = None
    error: str | None = None
    snapshot: str | None = None
    candidate: str | None = None
    positions: Positions | None = None
    """How far the facts were read for its snapshot; None for a training of the first days."""


@dataclass(frozen=True)
class TrainingRequest:
    """A training that wants a person's yes before GPU hours are spent (`approve.before` names "train")."""

    id: int
    reason: str
    requested_at_us: int
    answer: Literal["approved", "rejected", "used"] | None = None
    actor: str | None = None
    answered_at_us: int | None = None
    positions: Positions | None = None
    """How far the facts went when it was looked at last before the answer; None for a request of the first days."""

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.id}"


class Trainings:
    """The trainings in the control database. Who starts one holds the trainer's lock of the state directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, reason: str, now_us: int, snapshot: str | None = None, positions: Positions | None = None) -> int:
        """Note that a training begins; returns its id. One that never ended was stopped: only one runs at a time."""
        table = schema.trainings
        with self._database.write() as connection:
            lock(connection)
            connection.execute(
                update(table)
                .where(table.c.ended_at_us.is_(None))
                .values(ended_at_us=now_us, outcome="stopped", error="the trainer stopped before it was done")
            )
            values = {"reason": reason, "started_at_us": now_us, "snapshot": snapshot, "positions": positions}
            made = connection.execute(insert(table).values(values))
            assert made.inserted_primary_key is not None
            return int(made.inserted_primary_key[0])

    def end(
        self,
        training_id: int,
        outcome: Literal["done", "failed", "stopped"],
        now_us: int,
        *,
        error: str | None = None,
        snapshot: str | None = None,
        candidate: str | None = None,
    ) -> None:
        """Note how it ended; `snapshot` where it was sealed after the start."""
        values = {"ended_at_us": now_us, "outcome": outcome, "error": error, "candidate": candidate}
        values |= {"snapshot": snapshot} if snapshot else {}
        with self._database.write() as connection:
            connection.execute(update(schema.trainings).where(schema.trainings.c.id == training_id).values(values))

    def list(self, limit: int = 20) -> Sequence[Training]:
        """Newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.trainings).order_by(schema.trainings.c.id.desc()).limit(limit))
            return [Training(**row._asdict()) for row in rows]

    def last_done(self) -> Training | None:
        """The latest training that led to a candidate."""
        table = schema.trainings
        newest = select(table).where(table.c.outcome == "done").order_by(table.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(newest).one_or_none()
            return Training(**row._asdict()) if row else None

    def failures_in_a_row(self) -> int:
        """How many of the latest trainings that ended failed, one after another; a stopped one counts for nothing."""
        table = schema.trainings
        with self._database.read() as connection:
            last_done = (
                select(table.c.id)
                .where(table.c.outcome == "done")
                .order_by(table.c.id.desc())
                .limit(1)
                .scalar_subquery()
            )
            failed = select(table.c.id, last_done.label("last_done")).where(table.c.outcome == "failed")
            return sum(row.last_done is None or row.id > row.last_done for row in connection.execute(failed))

    def request(self, reason: str, now_us: int, positions: Positions | None = None) -> TrainingRequest:
        """Ask for a yes; while one is open or agreed to, that one is returned. `positions`: how far the facts go now; an
        open one keeps the latest, so that after a no it is known which labels nobody could have had in mind."""
        table = schema.training_requests
        with self._database.write() as connection:
            lock(connection)
            row = connection.execute(
                select(table).where(table.c.answer.is_(None) | (table.c.answer == "approved")).limit(1)
            ).one_or_none()
            if row is None:
                made = connection.execute(insert(table).values(reason=reason, requested_at_us=now_us))
                assert made.inserted_primary_key is not None
                row = connection.execute(select(table).where(table.c.id == made.inserted_primary_key[0])).one()
            request = TrainingRequest(**row._asdict())
            if request.answer is not None or request.positions == positions:
                return request
            connection.execute(update(table).where(table.c.id == request.id).values(positions=positions))
            return replace(request, positions=positions)

    def open_request(self) -> TrainingRequest | None:
        """The request that waits for an answer, or was agreed to and not used yet."""
        with self._database.read() as connection:
            return open_request(connection)

    def last_rejected(self) -> TrainingRequest | None:
        """The latest request to which a person said no."""
        table = schema.training_requests
        newest = select(table).where(table.c.answer == "rejected").order_by(table.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(newest).one_or_none()
            return TrainingRequest(**row._asdict()) if row else None

    def answer(
        self, name: str, answer: Literal["approved", "rejected"], actor: str, reason: str, now_us: int
    ) -> TrainingRequest:
        """A person's answer to `training-7`. Raises Failed on an unknown one, Refused on one answered before."""
        table = schema.training_requests
        number = name.removeprefix(PREFIX)
        with self._database.write() as connection:
            lock(connection)
            known = number.isascii() and number.isdigit() and len(number) < 10
            found = select(table).where(table.c.id == (int(number) if known else 0))
            row = connection.execute(found).one_or_none()
            if row is None:
                raise Failed(f"there is no request {name[:40]!r} for a training: `trimtab status` shows the open one")
            if row.answer is not None:
                raise Refused(f"{name} was answered before ({row.answer} by {row.actor})")
            values = {"answer": answer, "actor": actor, "answered_at_us": now_us}
            connection.execute(update(table).where(table.c.id == row.id).values(values))
            append(connection, Entry(now_us, actor, "train", name, "requested", answer, reason))
            return TrainingRequest(**connection.execute(found).one()._asdict())

    def use_approval(self, now_us: int, expires_us: int) -> bool:
        """Whether a person agreed to a training, not longer than `expires_us` ago; a yes is good for one training."""
        table = schema.training_requests
        with self._database.write() as connection:
            lock(connection)
            row = connection.execute(select(table).where(table.c.answer == "approved").limit(1)).one_or_none()
            if row is None:
                return False
            connection.execute(update(table).where(table.c.id == row.id).values(answer="used"))
            return bool(now_us < row.answered_at_us + expires_us)


def open_request(connection: Connection) -> TrainingRequest | None:
    """The request that waits for an answer, or was agreed to and not used yet; within somebody's transaction."""
    table = schema.training_requests
    row = connection.execute(
        select(table).where(table.c.answer.is_(None) | (table.c.answer == "approved")).limit(1)
    ).one_or_none()
    return TrainingRequest(**row._asdict()) if row else None
