"""How people label blind comparisons, in the control database: each is asked about the oldest pair that wants one more person.

Who is asked has a place at that pair for ten minutes; a label is stored once and never changed, as the gate may have counted it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    ScalarSelect,
    Select,
    and_,
    exists,
    func,
    insert,
    select,
    update,
)

from deploy.control import schema
from deploy.control.assignments import read_serving
from deploy.control.comparisons import COLUMNS, comparison_of
from deploy.control.database import Database
from deploy.errors import Failed, Refused
from deploy.rules.comparing import JUDGE, OPEN, ComparisonLabel
from deploy.rules.labelling import (
    CLAIM_US,
    Answer,
    Progress,
    Question,
    Side,
    agreement,
    preference,
    question,
    side_first,
)

LABELLING = 0x6C61626C
"""PostgreSQL's advisory lock of whoever asks or answers."""

pairs, labels, claims = schema.comparisons, schema.comparison_labels, schema.comparison_claims
candidates = schema.candidates


NOT_STORED = "the label was not stored"


class UnknownPair(Failed):
    """There is no such pair, or it is not for whoever asks."""


class Labelling:
    """Asking and answering. `tenant` None: whoever asks is bound to none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next(self, labeller: str, tenant: str | None, now_us: int, draw: float) -> Question | None:
        """The pair that this person is asked about, the same until it is answered or ten minutes have passed; None: there is none.

        `draw`, uniform in [0, 1) and a secret until now, says which reply comes first where this is a new pair.
        """
        _named(labeller)
        with self._change() as connection:
            mine = _labelled_by(labeller)
            asked = (
                _select(pairs.c.id)
                .where(self._open(connection, tenant, now_us), ~mine)
                .order_by(pairs.c.number)
                .limit(1)
            )
            held = asked.join(claims, _of(claims, pairs.c.id, labeller)).where(_live(now_us), _given() < pairs.c.people)
            free = asked.where(_given() + _held(labeller, now_us) < pairs.c.people)
            pair_id = connection.execute(held).scalar() or connection.execute(free).scalar()
            if pair_id is None:
                return None
            row = connection.execute(select(*COLUMNS).where(pairs.c.id == pair_id)).one()
            return question(comparison_of(row), _claim(connection, pair_id, labeller, now_us, draw))

    def answer(
        self, pair_id: str, labeller: str, tenant: str | None, answer: Answer, now_us: int, reason: str = ""
    ) -> ComparisonLabel:
        """Store what this person says of the pair; the same again is fine.

        Raises UnknownPair, and Refused where this person was not asked, took too long and somebody else was asked instead, has
        said something else before, or where its candidate's fate is decided.
        """
        _named(labeller)
        with self._change() as connection:
            row = _pair(connection, pair_id, tenant)
            mine = _of(claims, pair_id, labeller)
            claim = connection.execute(select(claims.c.first, _live(now_us).label("live")).where(mine)).one_or_none()
            if claim is None:
                raise Refused(f"{labeller} was not asked about this pair: ask for the next one, and answer with its id")
            said, how = preference(answer, claim.first), {"first": claim.first}
            stored = connection.execute(select(labels).where(_of(labels, pair_id, labeller))).one_or_none()
            if stored is not None:
                if stored.preference != said:
                    raise Refused(
                        f"{labeller} has labelled this pair already, otherwise: what was said may be counted, and stays"
                    )
                return ComparisonLabel(**stored._asdict())
            if row.state not in OPEN:
                raise Refused(f"{NOT_STORED}: its candidate is {row.state} by now, and no more is asked about it")
            if row.until_us < now_us:
                raise Refused(f"{NOT_STORED}: the time for it is over, and it counts as a tie: ask for the next pair")
            taken = select(_given() if claim.live else _given() + _held(labeller, now_us)).where(pairs.c.id == pair_id)
            if connection.execute(taken).scalar_one() >= row.people:
                raise Refused(f"{NOT_STORED}: it came after ten minutes, when others were asked: ask for the next pair")
            label = ComparisonLabel(pair_id, labeller, said, now_us, how, reason)
            connection.execute(insert(labels).values(dataclasses.asdict(label)))
            connection.execute(update(claims).where(mine).values(until_us=0))
            return label

    def leave(self, labeller: str) -> None:
        """Whoever stops gives back what he was asked about last: somebody else may be asked at once."""
        with self._change() as connection:
            mine = (claims.c.labeller == labeller) & (claims.c.until_us > 0)
            connection.execute(update(claims).where(mine).values(until_us=0))

    def progress(self, labeller: str, tenant: str | None, now_us: int) -> Progress:
        """How far this person, and all together, are."""
        mine, theirs = labels.alias(), labels.alias()
        both = _select(mine.c.preference, theirs.c.labeller, theirs.c.preference.label("other"))
        both = both.join(mine, _of(mine, pairs.c.id, labeller))
        both = both.join(theirs, (theirs.c.comparison_id == pairs.c.id) & (theirs.c.labeller != labeller))
        with self._database.read() as connection:
            these, done = self._open(connection, tenant, now_us), _labelled_by(labeller)
            totals = _select(func.sum(pairs.c.people), func.sum(_given())).where(these)
            labelled = _select(func.count()).where(these, done)
            left = _select(func.count()).where(these, ~done, _given() < pairs.c.people)
            said = connection.execute(both.where(these)).all()
            wanted, given = connection.execute(totals).one()
            return Progress(
                labelled=connection.execute(labelled).scalar_one(),
                given=int(given or 0),
                wanted=int(wanted or 0),
                left=connection.execute(left).scalar_one(),
                with_people=agreement((row.preference, row.other) for row in said if row.labeller != JUDGE),
                with_judge=agreement((row.preference, row.other) for row in said if row.labeller == JUDGE),
            )

    def waiting_since_us(self, now_us: int) -> int | None:
        """When the oldest pair was sampled of which people still have to speak; None where there is none."""
        with self._database.read() as connection:
            these = self._open(connection, None, now_us)
            oldest = _select(func.min(pairs.c.sampled_at_us)).where(these, _given() < pairs.c.people)
            since_us: int | None = connection.execute(oldest).scalar()
            return since_us

    def _open(self, connection: Connection, tenant: str | None, now_us: int) -> ColumnElement[bool]:
        """Whether people are to be asked about a pair, whoever has been: nobody has decided on its candidate, nor on another
        incumbent, and there is time."""
        incumbent = read_serving(connection).incumbent or ""
        these = and_(candidates.c.state.in_(OPEN), pairs.c.people > 0, pairs.c.incumbent == incumbent)
        these = and_(these, pairs.c.until_us >= now_us)
        return these if tenant is None else and_(these, pairs.c.tenant == tenant)

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        """One after another: who is asked at once is not asked about the same place."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LABELLING})")
            yield connection


def _named(labeller: str) -> None:
    if labeller == JUDGE:
        raise Failed("say who labels: a person needs a name")


def _select(*columns: Any) -> Select[*tuple[Any, ...]]:
    """From the pairs and their candidates."""
    return select(*columns).select_from(pairs).join(candidates, candidates.c.digest == pairs.c.candidate)


def _given() -> ScalarSelect[int]:
    """How many people have labelled a pair."""
    people = (labels.c.comparison_id == pairs.c.id) & (labels.c.labeller != JUDGE)
    return select(func.count()).select_from(labels).where(people).correlate(pairs).scalar_subquery()


def _held(labeller: str, now_us: int) -> ScalarSelect[int]:
    """How many others have a place at a pair."""
    others = (claims.c.comparison_id == pairs.c.id) & (claims.c.labeller != labeller) & _live(now_us)
    return select(func.count()).select_from(claims).where(others).correlate(pairs).scalar_subquery()


def _live(now_us: int) -> ColumnElement[bool]:
    """A place that is kept. One that a clock gave that was far ahead is not; a little ahead is every other machine's."""
    return claims.c.until_us.between(now_us + 1, now_us + 2 * CLAIM_US)


def _labelled_by(labeller: str) -> ColumnElement[bool]:
    return exists().where(_of(labels, pairs.c.id, labeller)).correlate(pairs)


def _of(table: FromClause, pair_id: Any, labeller: str) -> ColumnElement[bool]:
    return and_(table.c.comparison_id == pair_id, table.c.labeller == labeller)


def _claim(connection: Connection, pair_id: str, labeller: str, now_us: int, draw: float) -> Side:
    """Keep a place for this person; whose reply comes first. Who was asked before about the pair sees it as before."""
    until_us, mine = now_us + CLAIM_US, _of(claims, pair_id, labeller)
    known: Side | None = connection.execute(select(claims.c.first).where(mine)).scalar()
    if known is not None:
        connection.execute(update(claims).where(mine).values(until_us=until_us))
        return known
    before = select(claims.c.first, func.count().label("times")).where(claims.c.labeller == labeller)
    shown: dict[Side, int] = {row.first: row.times for row in connection.execute(before.group_by(claims.c.first))}
    first = side_first(shown, draw)
    row = {"comparison_id": pair_id, "labeller": labeller, "until_us": until_us, "first": first}
    connection.execute(insert(claims).values(row))
    return first


def _pair(connection: Connection, pair_id: str, tenant: str | None) -> Row[*tuple[Any, ...]]:
    """How many people it wants, until when, and the state of its candidate. Raises UnknownPair."""
    query = _select(pairs.c.people, pairs.c.until_us, candidates.c.state)
    if tenant is not None:
        query = query.where(pairs.c.tenant == tenant)
    name = pair_id if re.fullmatch("[0-9a-f]{32}", pair_id) else ""  # else it can't be asked of every database
    row = connection.execute(query.where(pairs.c.id == name)).one_or_none()
    if row is None:
        raise UnknownPair("there is no such pair: ask for the next one, and answer with its id")
    return row
