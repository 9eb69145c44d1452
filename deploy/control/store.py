"""What Trimtab remembers of decisions: the control database, opened. Rules live in `rules`; `decisions` brings the two together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from deploy.control import history, schema
from deploy.control.database import Database, open_database
from deploy.control.keys import Key, Keys
from deploy.control.trainings import Trainings
from deploy.control.transaction import Transaction, read_serving
from deploy.rules.assignment import Assignment, Exposure, Routing, choose_arm


class Control:
    """The control database. Make one with `open_control`; any thread may use it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.database)

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
        """Who serves now. Cheap enough for every request."""
        with self.database.read() as connection:
            return read_serving(connection).routing

    def assignment(self, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
        """The arm that this conversation was assigned in this rollout."""
        with self.database.read() as connection:
            return _read_assignment(connection, rollout_id, tenant, conversation_id)

    def assign(self, assignment: Assignment) -> Assignment:
        """Store it; of several at once for one conversation the first stands, and that one is returned."""
        try:
            with self.database.write() as connection:
                connection.execute(insert(schema.assignments).values(dataclasses.asdict(assignment)))
        except IntegrityError:
            stored = self.assignment(assignment.rollout_id, assignment.tenant, assignment.conversation_id)
            assert stored is not None
            return stored
        return assignment

    def expose(self, tenant: str, conversation_id: str, unit: str, now_us: int) -> Exposure:
        """What serves this conversation's next turn; its assignment is on disk when this returns.

        `unit` is the hashed user id, or the conversation where no user is known.
        """
        with self.database.read() as connection:
            routing = read_serving(connection).routing
            rollout_id = None if routing.halted else routing.rollout_id
            stored = _read_assignment(connection, rollout_id, tenant, conversation_id) if rollout_id else None
        if rollout_id is None:
            return Exposure(routing.policy("incumbent"))
        if stored is None:
            arm = choose_arm(f"{tenant}/{unit}", routing, None)
            stored = self.assign(Assignment(rollout_id, tenant, conversation_id, unit, arm, routing.share, now_us))
        return Exposure(routing.policy(stored.arm), stored.arm, rollout_id, stored.share)

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


def _read_assignment(connection: Connection, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
    table = schema.assignments
    row = connection.execute(
        select(table).where(
            table.c.rollout_id == rollout_id, table.c.tenant == tenant, table.c.conversation_id == conversation_id
        )
    ).one_or_none()
    return Assignment(**row._asdict()) if row else None
