"""Who serves now, and which arm a conversation was assigned to at its first exposure."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from deploy.control import schema
from deploy.control.database import Database
from deploy.rules.assignment import Assignment, Exposure, Routing, choose_arm, exposed
from deploy.rules.rollout import Rollout, Serving


class Assignments:
    """The assignments in the control database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routing(self) -> Routing:
        """Who serves now. Cheap enough for every request."""
        with self._database.read() as connection:
            return read_serving(connection).routing

    def find(self, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
        """The arm that this conversation was assigned in this rollout."""
        with self._database.read() as connection:
            return _read(connection, rollout_id, tenant, conversation_id)

    def assign(self, assignment: Assignment) -> Assignment:
        """Store it; of several at once for one conversation the first stands, and that one is returned."""
        try:
            with self._database.write() as connection:
                connection.execute(insert(schema.assignments).values(dataclasses.asdict(assignment)))
        except IntegrityError:
            stored = self.find(assignment.rollout_id, assignment.tenant, assignment.conversation_id)
            assert stored is not None
            return stored
        return assignment

    def expose(self, tenant: str, conversation_id: str, unit: str, now_us: int) -> Exposure:
        """What serves this conversation's next turn; its assignment is on disk when this returns.

        `unit` is the hashed user id, or the conversation where no user is known.
        """
        with self._database.read() as connection:
            routing = read_serving(connection).routing
            rollout_id = routing.rollout_id
            stored = _read(connection, rollout_id, tenant, conversation_id) if rollout_id else None
        exposure = exposed(routing, stored)
        if exposure is None:
            assert rollout_id is not None
            arm = choose_arm(f"{tenant}/{unit}", routing, None)
            first = Assignment(rollout_id, tenant, conversation_id, unit, arm, routing.share, now_us)
            exposure = exposed(routing, self.assign(first))
            assert exposure is not None
        return exposure


def read_serving(connection: Connection) -> Serving:
    """What is served now, and the rollout under way."""
    table, rollouts = schema.serving, schema.rollouts
    row = connection.execute(
        select(table, *(rollouts.c[name] for name in ("candidate", "state", "share", "approved_at_us", "salt")))
        .join_from(table, rollouts, table.c.rollout_id == rollouts.c.id, isouter=True)
        .where(table.c.id == 1)
    ).one()
    rollout = None
    if row.rollout_id is not None:
        rollout = Rollout(row.rollout_id, row.candidate, row.state, row.share, row.approved_at_us, row.salt)
    return Serving(tuple(row.incumbents), rollout, row.halted)


def _read(connection: Connection, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
    table = schema.assignments
    row = connection.execute(
        select(table).where(
            table.c.rollout_id == rollout_id, table.c.tenant == tenant, table.c.conversation_id == conversation_id
        )
    ).one_or_none()
    return Assignment(**row._asdict()) if row else None
