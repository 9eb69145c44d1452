"""Blind comparisons and what was said of them, in the control database. `labelling` is how people label them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from deploy.control import schema
from deploy.control.database import Database, insert_new
from deploy.rules.comparing import JUDGE, OPEN, Comparison, ComparisonLabel, Labelled

COLUMNS = [schema.comparisons.c[field.name] for field in dataclasses.fields(Comparison)]
LOOKED_AT = [schema.comparisons.c[field.name] for field in dataclasses.fields(Labelled) if field.name != "labels"]


class Comparisons:
    """The comparisons in the control database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, comparisons: Sequence[Comparison]) -> int:
        """Store them in this order; how many were new. Who has been compared already stays as he was drawn."""
        with self._database.write() as connection:
            return add(connection, comparisons)

    def label(self, labels: Sequence[ComparisonLabel]) -> int:
        """Store them; how many were new: nobody speaks twice of a pair."""
        with self._database.write() as connection:
            return insert_new(connection, schema.comparison_labels, [dataclasses.asdict(one) for one in labels])

    def of(self, candidate: str, incumbent: str | None) -> list[Labelled]:
        """The pairs of these two in the order of sampling, with what was said of them; their texts, which may be long, are not read."""
        with self._database.read() as connection:
            return of(connection, candidate, incumbent)

    def unjudged(self, now_us: int, limit: int) -> list[Comparison]:
        """Pairs whose time is not over, of which the judge has not spoken, of candidates whose fate is open; the oldest first."""
        pairs, candidates, labels = schema.comparisons, schema.candidates, schema.comparison_labels
        judged = select(labels.c.comparison_id).where(labels.c.labeller == JUDGE)
        query = (
            select(*COLUMNS)
            .join(candidates, candidates.c.digest == pairs.c.candidate)
            .where(candidates.c.state.in_(OPEN), pairs.c.until_us >= now_us, pairs.c.id.not_in(judged))
            .order_by(pairs.c.number)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [comparison_of(row) for row in connection.execute(query)]


def add(connection: Connection, comparisons: Sequence[Comparison]) -> int:
    """`Comparisons.add`, as a part of something larger."""
    rows = [_row(one) for one in comparisons]
    return insert_new(connection, schema.comparisons, rows)


def _row(pair: Comparison) -> dict[str, Any]:
    return dataclasses.asdict(pair) | {"id": pair.id, "incumbent": pair.incumbent or "", "identical": pair.identical}


def of(connection: Connection, candidate: str, incumbent: str | None) -> list[Labelled]:
    """`Comparisons.of`, as a part of something larger."""
    pairs, labels = schema.comparisons, schema.comparison_labels
    these = (pairs.c.candidate == candidate) & (pairs.c.incumbent == (incumbent or ""))
    said = defaultdict[str, list[ComparisonLabel]](list)
    query = select(labels).join(pairs, pairs.c.id == labels.c.comparison_id).where(these)
    for row in connection.execute(query.order_by(labels.c.at_us, labels.c.labeller)):
        said[row.comparison_id].append(ComparisonLabel(**row._asdict()))
    rows = connection.execute(select(*LOOKED_AT).where(these).order_by(pairs.c.number))
    return [Labelled(**row._asdict(), labels=tuple(said[row.id])) for row in rows]


def comparison_of(row: Row[Any]) -> Comparison:
    """The pair of a row that has COLUMNS."""
    values = {column.name: getattr(row, column.name) for column in COLUMNS}
    return Comparison(**values | {"incumbent": row.incumbent or None})
