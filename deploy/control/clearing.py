"""What is forgotten of people once it decides nothing any more: who had which arm, for whom a candidate was asked, who saw a pair.

The history, the seals, the shares, the pairs and what was said of them stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from deploy.control import schema
from deploy.control.database import Database
from deploy.rules.comparing import OPEN

AT_ONCE = 2_000


def clear(database: Database, before_us: int) -> int:
    """Forget some of what was over before this moment; how many rows.

    0 once nothing is left. Each call is short, so that chats never wait for it.
    """
    cleared = 0
    with database.write() as connection:
        for table, over in _over(before_us):
            key = tuple_(*table.primary_key.columns)
            some = select(*table.primary_key.columns).where(over).limit(AT_ONCE)
            cleared += connection.execute(delete(table).where(key.in_(some))).rowcount
    return cleared


def _over(before_us: int) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Of rollouts that ended before, and of candidates on whom somebody has decided, what is older."""
    rollouts, candidates, pairs = schema.rollouts, schema.candidates, schema.comparisons
    asks, claims = schema.shadow_asks, schema.comparison_claims
    ended = select(rollouts.c.id).where(rollouts.c.ended_at_us < before_us).scalar_subquery()
    for table in (schema.assignments, schema.enrolments, schema.looks):
        yield table, table.c.rollout_id.in_(ended)
    waiting = select(candidates.c.digest).where(candidates.c.state.in_(OPEN))
    yield asks, (asks.c.at_us < before_us) & asks.c.candidate.not_in(waiting)
    wanted = select(pairs.c.id).where(pairs.c.candidate.in_(waiting))
    yield claims, (claims.c.until_us < before_us) & claims.c.comparison_id.not_in(wanted)
