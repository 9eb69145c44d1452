"""What Trimtab remembers of decisions: candidates and their evidence, the rollout, who is assigned to which arm.

A store and nothing else: rules live in `gate`, `approval` and `rollout`, and `operations` brings the two together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from deploy.control import history, schema
from deploy.control.assignments import Assignments, read_serving
from deploy.control.database import Database, open_database
from deploy.control.keys import Key, Keys
from deploy.control.trainings import Trainings
from deploy.errors import Failed
from deploy.rules.assignment import Assignment, Exposure, Routing
from deploy.rules.rollout import CandidateState, Serving, Stage


class UnknownCandidate(Failed):
    """No candidate, or more than one, has a digest that begins so."""


@dataclass(frozen=True)
class Candidate:
    """A candidate directory that was registered, and what became of it."""

    digest: str
    snapshot: str
    dataset_hash: str
    report_sha256: str
    created_at_us: int
    registered_at_us: int
    state: CandidateState
    stage: Stage
    rejected_by: str | None = None


@dataclass(frozen=True)
class Seal:
    """The evidence at one decision point; `seal` is its sha256, and what an approval names."""

    seal: str
    candidate: str
    decision: str
    reasons: Sequence[str]
    evidence: dict[str, Any]
    sealed_at_us: int


@dataclass(frozen=True)
class Approval:
    """A person's yes."""

    rollout_id: str
    at_us: int
    candidate: str
    seal: str
    actor: str
    reason: str
    override_hold: bool


class Transaction:
    """Reads and changes that happen together or not at all."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def candidates(self) -> list[Candidate]:
        """Newest first."""
        table = schema.candidates
        rows = self.connection.execute(select(table).order_by(table.c.created_at_us.desc(), table.c.digest))
        return [Candidate(**row._asdict()) for row in rows]

    def candidate(self, prefix: str) -> Candidate:
        """The one candidate whose digest begins so. Raises UnknownCandidate, naming the matches."""
        table = schema.candidates
        wanted = prefix.strip().lower().removeprefix("tt-")
        starts = table.c.digest.startswith(wanted, autoescape=True)
        rows = self.connection.execute(select(table).where(starts).order_by(table.c.digest).limit(6)).all()
        if len(rows) == 1 and wanted:
            return Candidate(**rows[0]._asdict())
        if not rows or not wanted:
            raise UnknownCandidate(f"there is no candidate {prefix[:80]!r}: `trimtab candidates` lists them")
        matches = ", ".join(row.digest[: len(wanted) + 6] for row in rows[:5]) + (" …" if len(rows) > 5 else "")
        raise UnknownCandidate(f"more than one candidate begins with {prefix!r}: {matches}")

    def knows(self, digest: str) -> bool:
        found = self.connection.execute(
            select(schema.candidates.c.digest).where(schema.candidates.c.digest == digest)
        ).one_or_none()
        return found is not None

    def add_candidate(self, candidate: Candidate) -> None:
        self.connection.execute(insert(schema.candidates).values(dataclasses.asdict(candidate)))

    def move(self, digest: str, state: CandidateState, stage: Stage | None, rejected_by: str | None = None) -> None:
        """Give the candidate this state; stage None leaves that as it was."""
        values: dict[str, Any] = {"state": state, "rejected_by": rejected_by} | ({"stage": stage} if stage else {})
        self.connection.execute(update(schema.candidates).where(schema.candidates.c.digest == digest).values(values))

    def current_seal(self, digest: str) -> Seal | None:
        """The latest seal of this candidate."""
        table = schema.seals
        newest = select(table).where(table.c.candidate == digest).order_by(table.c.sealed_at_us.desc(), table.c.seal)
        row = self.connection.execute(newest.limit(1)).one_or_none()
        return Seal(**row._asdict()) if row else None

    def seal(self, name: str) -> Seal:
        """The seal of this full name."""
        return Seal(**self.connection.execute(select(schema.seals).where(schema.seals.c.seal == name)).one()._asdict())

    def add_seal(self, seal: Seal) -> None:
        """Keep the evidence; the same seal again is fine."""
        known = self.connection.execute(select(schema.seals.c.seal).where(schema.seals.c.seal == seal.seal)).first()
        if known is None:
            values = dataclasses.asdict(seal) | {"reasons": list(seal.reasons)}
            self.connection.execute(insert(schema.seals).values(values))

    def add_approval(self, approval: Approval) -> None:
        self.connection.execute(insert(schema.approvals).values(dataclasses.asdict(approval)))

    def approvals(self, digest: str) -> list[Approval]:
        """Those of this candidate, newest first."""
        table = schema.approvals
        columns = [table.c[field.name] for field in dataclasses.fields(Approval)]
        rows = self.connection.execute(select(*columns).where(table.c.candidate == digest).order_by(table.c.id.desc()))
        return [Approval(**row._asdict()) for row in rows]

    def serving(self) -> Serving:
        """What is served now, and the rollout under way."""
        return read_serving(self.connection)

    def save_serving(self, before: Serving, after: Serving, now_us: int) -> None:
        """Store what a transition made of `before`, which was read in this transaction."""
        if before.rollout is not None and after.rollout is None:
            full = after.incumbent == before.rollout.candidate
            self._save_rollout(
                before.rollout.id, {"state": "full" if full else "rolled_back", "share": 1.0 if full else 0.0,
                                    "ended_at_us": now_us}
            )  # fmt: skip
        rollout = after.rollout
        if rollout is not None:
            if before.rollout is None:
                values = dataclasses.asdict(rollout) | {"incumbent": after.incumbent}
                self.connection.execute(insert(schema.rollouts).values(values))
            else:
                self._save_rollout(
                    rollout.id,
                    {"state": rollout.state, "share": rollout.share, "approved_at_us": rollout.approved_at_us},
                )
        self.connection.execute(
            update(schema.serving)
            .where(schema.serving.c.id == 1)
            .values(incumbents=list(after.incumbents), rollout_id=rollout.id if rollout else None, halted=after.halted)
        )

    def rollbacks(self, digest: str) -> int:
        """How often this candidate was rolled back."""
        table = schema.history
        happened = (table.c.subject == digest) & (table.c.after == "rolled_back")
        return self.connection.execute(select(func.count()).select_from(table).where(happened)).scalar_one()

    def history_of(self, subject: str) -> Sequence[history.Entry]:
        """What happened to one candidate, newest first."""
        return history.read(self.connection, subject=subject)

    def append(self, entry: history.Entry) -> None:
        """Write it into the history."""
        history.append(self.connection, entry)

    def _save_rollout(self, rollout_id: str, values: dict[str, Any]) -> None:
        self.connection.execute(update(schema.rollouts).where(schema.rollouts.c.id == rollout_id).values(values))


class Control:
    """The control database. Make one with `open_control`; any thread may use it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.database)

    @cached_property
    def assignments(self) -> Assignments:
        return Assignments(self.database)

    @cached_property
    def trainings(self) -> Trainings:
        return Trainings(self.database)

    def key(self, token: str, now_us: int) -> Key | None:
        """The valid key of a bearer token, else None."""
        return self.keys.find(token, now_us)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view."""
        with self.database.read() as connection:
            yield Transaction(connection)

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """Changes, one after another: what is read in here stays true until the end."""
        with self.database.write() as connection:
            history.lock(connection)
            yield Transaction(connection)

    def routing(self) -> Routing:
        """Who serves now."""
        return self.assignments.routing()

    def assignment(self, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
        """The arm that this conversation was assigned in this rollout."""
        return self.assignments.find(rollout_id, tenant, conversation_id)

    def assign(self, assignment: Assignment) -> Assignment:
        """Store it; of several at once for one conversation the first stands, and that one is returned."""
        return self.assignments.assign(assignment)

    def expose(self, tenant: str, conversation_id: str, unit: str, now_us: int) -> Exposure:
        """What serves this conversation's next turn; its assignment is on disk when this returns."""
        return self.assignments.expose(tenant, conversation_id, unit, now_us)

    def history(self, limit: int | None = None) -> Sequence[history.Entry]:
        """What was changed, by whom and why, newest first."""
        with self.database.read() as connection:
            return history.read(connection, limit)

    def close(self) -> None:
        self.database.close()


def open_control(where: str | Path) -> Control:
    """The control database at a path (SQLite) or URL (`postgresql://…`), made where it is missing.

    Raises Failed when it can't be opened or belongs to a newer version.
    """
    return Control(open_database(where))
