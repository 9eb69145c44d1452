"""Which candidate is in the shadow, for whom it was asked, and what came of that, in the control database."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from deploy.control import schema
from deploy.control.database import Database, insert_new
from deploy.control.records import ShadowEnded, ShadowTally
from deploy.rules.assignment import Shadow
from feedback.statistics.plan import DAY_US

Asked = Literal["asked", "asked_before", "daily_cap", "over"]
"""What became of wanting to ask; only the first may go on."""


class Shadows:
    """The asks of the shadow stage. Two gateways that ask at once, or one that was killed, ask for nobody twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, shadow: Shadow, tenant: str, unit: str, most_per_day: int, now_us: int) -> Asked:
        """Note that the candidate is asked for this unit; on disk when this returns."""
        table, shadows = schema.shadow_asks, schema.shadows
        open_one = (shadows.c.id == shadow.id) & shadows.c.ended_at_us.is_(None)
        today = (table.c.candidate == shadow.candidate) & (table.c.at_us >= now_us - now_us % DAY_US)
        with self._database.write() as connection:  # the row's lock: all gateways count one after another
            if connection.execute(select(shadows.c.id).where(open_one).with_for_update()).one_or_none() is None:
                return "over"
            if connection.execute(select(func.count()).select_from(table).where(today)).scalar_one() >= most_per_day:
                return "daily_cap"
            row = {"candidate": shadow.candidate, "tenant": tenant, "unit": unit, "at_us": now_us}
            return "asked" if insert_new(connection, table, [row]) else "asked_before"

    def failed(self, candidate: str, tenant: str, unit: str, why: str) -> None:
        """No pair came of it."""
        with self._database.write() as connection:
            connection.execute(update(schema.shadow_asks).where(_this(candidate, tenant, unit)).values(failure=why))

    def forget(self, candidate: str, tenant: str, unit: str) -> None:
        """It was not asked after all: it may be another time."""
        with self._database.write() as connection:
            connection.execute(delete(schema.shadow_asks).where(_this(candidate, tenant, unit)))


def read_shadow(connection: Connection) -> Shadow | None:
    """The one under way."""
    table = schema.shadows
    columns = [table.c[field.name] for field in dataclasses.fields(Shadow)]
    row = connection.execute(select(*columns).where(table.c.ended_at_us.is_(None))).one_or_none()
    return Shadow(**row._asdict()) if row is not None else None


def begin_shadow(connection: Connection, shadow: Shadow) -> None:
    """There must be none under way."""
    connection.execute(insert(schema.shadows).values(dataclasses.asdict(shadow)))


def end_shadow(connection: Connection, shadow: Shadow, outcome: str, why: str, now_us: int) -> None:
    """It is over."""
    table = schema.shadows
    values = {"ended_at_us": now_us, "outcome": outcome, "why": why}
    connection.execute(update(table).where(table.c.id == shadow.id).values(values))


def ended_shadows(connection: Connection, candidates: Collection[str]) -> dict[str, ShadowEnded]:
    """How the last shadow of each of these ended that had one."""
    table = schema.shadows
    columns = [table.c[field.name] for field in dataclasses.fields(ShadowEnded)]
    over = table.c.candidate.in_(candidates) & table.c.ended_at_us.is_not(None)
    rows = connection.execute(select(*columns).where(over).order_by(table.c.ended_at_us, table.c.started_at_us))
    return {row.candidate: ShadowEnded(**row._asdict()) for row in rows}


def held_shadow(connection: Connection) -> str | None:
    """The candidate that came to the end of its shadow last, without enough evidence, and that nobody has decided since."""
    table, candidates = schema.shadows, schema.candidates
    query = select(table.c.candidate, table.c.outcome, candidates.c.state)
    query = query.join(candidates, candidates.c.digest == table.c.candidate)
    last = connection.execute(query.order_by(table.c.started_at_us.desc(), table.c.id).limit(1)).one_or_none()
    return last.candidate if last is not None and (last.outcome, last.state) == ("held", "held") else None


def tally_shadow(connection: Connection, candidate: str) -> ShadowTally:
    """What came of asking this candidate so far."""
    pairs, asks = schema.comparisons, schema.shadow_asks
    ours = (pairs.c.candidate == candidate) & (pairs.c.origin == "shadow")
    counted = select(func.count().label("many"), func.max(pairs.c.sampled_at_us).label("last")).where(ours)
    pair: Row[tuple[int, int | None]] = connection.execute(counted).one()
    grouped = select(asks.c.failure, func.count()).where(asks.c.candidate == candidate).group_by(asks.c.failure)
    failures = {why: many for why, many in connection.execute(grouped).all() if why is not None}
    return ShadowTally(pair.many, pair.last, dict(sorted(failures.items())))


def _this(candidate: str, tenant: str, unit: str) -> ColumnElement[bool]:
    table = schema.shadow_asks
    return (table.c.candidate == candidate) & (table.c.tenant == tenant) & (table.c.unit == unit)
