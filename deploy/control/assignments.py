"""Who serves now, and which arm a conversation was assigned to at its first exposure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from deploy.control import schema
from deploy.control.database import Database
from deploy.rules.assignment import Assignment, Conversation, Exposure, Routing, choose_arm, exposed
from deploy.rules.rollout import Rollout, Serving

Name = tuple[str, str]
"""Tenant and conversation."""


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
            return _stored(connection, rollout_id, [(tenant, conversation_id)]).get((tenant, conversation_id))

    def assign(self, assignments: Sequence[Assignment]) -> dict[Name, Assignment]:
        """Store these of one rollout; of several at once for one conversation the first stands, and that one is returned."""
        in_order = sorted(assignments, key=_name)  # else two who store the same ones could wait for each other for ever
        rows = [dataclasses.asdict(assignment) for assignment in in_order]
        with self._database.write() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(schema.assignments).on_conflict_do_nothing(), rows)
            return _stored(connection, assignments[0].rollout_id, map(_name, assignments))

    def expose(self, conversations: Sequence[Conversation]) -> list[Exposure]:
        """What serves the next turn of each; their assignments are on disk when this returns."""
        with self._database.read() as connection:
            routing = read_serving(connection).routing
            rollout_id = None if routing.halted else routing.rollout_id
            stored = _stored(connection, rollout_id, map(_name, conversations)) if rollout_id is not None else {}
        if rollout_id is not None:
            new = {_name(one): one for one in reversed(conversations) if _name(one) not in stored}  # the first counts
            if new:
                stored |= self.assign([_first(one, rollout_id, routing) for one in new.values()])
        exposures = [exposed(routing, stored.get(_name(one))) for one in conversations]
        return [exposure for exposure in exposures if exposure is not None]  # each of them has its assignment now


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


def _first(conversation: Conversation, rollout_id: str, routing: Routing) -> Assignment:
    tenant, unit = conversation.tenant, conversation.unit
    arm = choose_arm(f"{tenant}/{unit}", routing, None)
    return Assignment(rollout_id, tenant, conversation.conversation_id, unit, arm, routing.share, conversation.at_us)


def _name(one: Conversation | Assignment) -> Name:
    return one.tenant, one.conversation_id


def _stored(connection: Connection, rollout_id: str, names: Iterable[Name]) -> dict[Name, Assignment]:
    table, found = schema.assignments, dict[Name, Assignment]()
    for tenant, group in groupby(sorted(names), key=itemgetter(0)):
        of_tenant = (table.c.rollout_id == rollout_id) & (table.c.tenant == tenant)
        rows = connection.execute(select(table).where(of_tenant, table.c.conversation_id.in_([id for _, id in group])))
        for row in rows:
            assignment = Assignment(**row._asdict())
            found[_name(assignment)] = assignment
    return found
