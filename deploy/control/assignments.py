"""Who serves now, which arm a unit was enrolled in, and with which its conversations began."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, select

from deploy.control import schema
from deploy.control.database import Database, insert_new
from deploy.control.shadows import read_shadow
from deploy.rules.assignment import Assignment, Conversation, Enrolment, Exposure, Routing, enrol, exposed
from deploy.rules.rollout import Rollout, Serving

Name = tuple[str, str]
"""Tenant, and conversation or unit."""


"""Rows of a table."""


class Assignments:
    """The assignments in the control database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routing(self) -> Routing:
        """Who serves now. Cheap enough for every request."""
        with self._database.read() as connection:
            serving = read_serving(connection)
            beside = serving.rollout is None and not serving.halted
            return dataclasses.replace(serving.routing, shadow=read_shadow(connection) if beside else None)

    def find(self, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
        """The arm that this conversation was assigned in this rollout."""
        with self._database.read() as connection:
            return _stored(connection, rollout_id, [(tenant, conversation_id)]).get((tenant, conversation_id))

    def assign(self, assignments: Sequence[Assignment]) -> dict[Name, Assignment]:
        """Store these of one rollout; of several at once for one conversation the first stands, and that one is returned."""
        with self._database.write() as connection:
            return _assign(connection, assignments)

    def enrolments(self, rollout_id: str) -> list[Enrolment]:
        """Those of a rollout, in order of assignment."""
        table = schema.enrolments
        columns = [table.c[field.name] for field in dataclasses.fields(Enrolment)]
        query = select(*columns).where(table.c.rollout_id == rollout_id).order_by(table.c.at_us, table.c.id)
        with self._database.read() as connection:
            return [Enrolment(**row._asdict()) for row in connection.execute(query)]

    def expose(self, conversations: Sequence[Conversation]) -> list[Exposure]:
        """What serves the next turn of each; their assignments are on disk when this returns."""
        with self._database.read() as connection:
            routing = read_serving(connection).routing
            rollout_id = None if routing.halted else routing.rollout_id
            stored = _stored(connection, rollout_id, map(_name, conversations)) if rollout_id is not None else {}
        if rollout_id is not None:
            new = {_name(one): one for one in reversed(conversations) if _name(one) not in stored}  # the first counts
            if new:
                with self._database.write() as connection:
                    arms = _enrol(connection, rollout_id, routing, list(new.values()))
                    stored |= _assign(connection, [_begun(one, arms[_unit(one)], routing) for one in new.values()])
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


def _enrol(
    connection: Connection, rollout_id: str, routing: Routing, conversations: Sequence[Conversation]
) -> dict[Name, Enrolment]:
    """The enrolments that decide for these, on disk; two who enrol a unit at once get one."""
    last = _enrolled(connection, rollout_id, map(_unit, conversations))
    decided = {_unit(one): enrol(one, routing, last.get(_unit(one))) for one in reversed(conversations)}
    fresh = [enrolment for unit, enrolment in sorted(decided.items()) if last.get(unit) != enrolment]
    if fresh:
        insert_new(connection, schema.enrolments, map(dataclasses.asdict, fresh))
        decided |= _enrolled(connection, rollout_id, map(_unit, fresh))
    return decided


def _enrolled(connection: Connection, rollout_id: str, units: Iterable[Name]) -> dict[Name, Enrolment]:
    """The last enrolment of each."""
    table, found = schema.enrolments, dict[Name, Enrolment]()
    columns = [table.c[field.name] for field in dataclasses.fields(Enrolment)]
    for tenant, group in groupby(sorted(set(units)), key=itemgetter(0)):
        of_tenant = (table.c.rollout_id == rollout_id) & (table.c.tenant == tenant)
        query = select(*columns).where(of_tenant, table.c.unit.in_([unit for _, unit in group]))
        for row in connection.execute(query.order_by(table.c.number)):
            found[row.tenant, row.unit] = Enrolment(**row._asdict())
    return found


def _begun(one: Conversation, enrolment: Enrolment, routing: Routing) -> Assignment:
    rollout_id, arm = enrolment.rollout_id, enrolment.arm
    return Assignment(rollout_id, one.tenant, one.conversation_id, one.unit, arm, routing.share, one.at_us)


def _assign(connection: Connection, assignments: Sequence[Assignment]) -> dict[Name, Assignment]:
    in_order = sorted(assignments, key=_name)  # else two who store the same ones could wait for each other for ever
    insert_new(connection, schema.assignments, map(dataclasses.asdict, in_order))
    return _stored(connection, assignments[0].rollout_id, map(_name, assignments))


def _unit(one: Conversation | Enrolment) -> Name:
    return one.tenant, one.unit


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
