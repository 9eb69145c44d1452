"""From one schema version to the next, within the transaction that opens the database: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Column, Connection, func, insert, inspect, select, text, update

from deploy.control import schema
from feedback.texts import normal_form

WAITED_US = 3 * 86_400 * 1_000_000
"""How long a pair was waited for before it was kept with it, unless the settings said otherwise."""


def migrate(connection: Connection, found: int) -> None:
    """Bring a database of version `found` to SCHEMA_VERSION."""
    for version in range(found, schema.SCHEMA_VERSION):
        STEPS[version](connection)
    connection.execute(schema.schema_version.update().values(version=schema.SCHEMA_VERSION))


def _from_1(connection: Connection) -> None:
    """Reasons as data, shares with their periods, labels counted by position. What was sealed before is history."""
    for column in (
        schema.candidates.c.seal,
        schema.seals.c.version,
        schema.history.c.data,
        schema.trainings.c.positions,
        schema.training_requests.c.positions,
    ):
        _add(connection, column)
    schema.periods.create(connection)
    for table in (schema.candidates, schema.seals, schema.history):
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    serving, rollouts = schema.serving, schema.rollouts
    now = connection.execute(
        select(serving, rollouts.c.candidate, rollouts.c.share).join_from(
            serving, rollouts, serving.c.rollout_id == rollouts.c.id, isouter=True
        )
    ).one()
    last_us = connection.execute(select(func.max(schema.history.c.at_us))).scalar() or 0
    canary = bool(now.share)  # an approval alone routes nothing
    connection.execute(
        insert(schema.periods).values(
            started_at_us=last_us,
            incumbent=now.incumbents[-1],
            rollout_id=now.rollout_id if canary else None,
            candidate=now.candidate if canary else None,
            share=now.share or 0.0,
            halted=now.halted,
        )
    )


def _from_2(connection: Connection) -> None:
    """Rollouts get a salt; those under way go on without."""
    _add(connection, schema.rollouts.c.salt)


def _from_3(connection: Connection) -> None:
    """Units are enrolled, those of a rollout under way with their next conversation; what the controller sees is kept;
    people may object."""
    schema.enrolments.create(connection)
    schema.objections.create(connection)
    schema.looks.create(connection)


def _from_4(connection: Connection) -> None:
    """Blind comparisons are kept, and which candidate was in the shadow."""
    compared = (schema.comparisons, schema.comparison_labels, schema.comparison_claims)
    for table in (*compared, schema.shadows, schema.shadow_asks):
        table.create(connection)


def _from_5(connection: Connection) -> None:
    """Of a pair it is kept until when it is waited for, and whether both replies are the same: the gate need not read them."""
    pairs = schema.comparisons
    if pairs.c.until_us.name in (column["name"] for column in inspect(connection).get_columns(pairs.name)):
        return  # the step before has made the table, as it is now
    _add(connection, pairs.c.until_us)
    _add(connection, pairs.c.identical)
    replies = connection.execute(select(pairs.c.id, pairs.c.candidate_reply, pairs.c.incumbent_reply))
    same = [row.id for row in replies if normal_form(row.candidate_reply) == normal_form(row.incumbent_reply)]
    connection.execute(update(pairs).values(until_us=pairs.c.sampled_at_us + WAITED_US, identical=False))
    for pair_id in same:
        connection.execute(update(pairs).where(pairs.c.id == pair_id).values(identical=True))


def _add(connection: Connection, column: Column[object]) -> None:
    kind = column.type.compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"))  # our own names


STEPS: Mapping[int, Callable[[Connection], None]] = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4, 5: _from_5}
"""By the version that a step starts from."""
