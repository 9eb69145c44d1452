"""The facts' tables in memory, behind the real writer: what it may not do twice, and what a crash may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deltalake import Transaction
from deltalake.exceptions import CommitFailedError

from feedback.facts.tables import TABLE_OF_TOPIC, Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.records import Judgement, Rating, Turn, Unjudged, Verdict
from tests.simulator.world import Loop, LoopClock


class Table:
    """One table: rows with the place where each stood, and the applied offsets, changed together."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.rows: list[tuple[Batch, Row]] = []
        self.before: list[tuple[dict[str, int], int]] = []

    def update_incremental(self) -> None: ...

    def transaction_version(self, app: str) -> int | None:
        return self.versions.get(app)


class Writer(FactsWriter):
    """The real one, on tables that all workers share."""

    def __init__(self, tables: dict[Any, Any], loop: Loop, conflicts: float, tell: Callable[[str], object]) -> None:
        self._shared, self._loop, self._conflicts, self._tell = tables, loop, conflicts, tell
        super().__init__(Path(), lambda topic: "log", LoopClock(loop))

    def _opened(self) -> dict[Any, Any]:
        return self._shared

    def _append(self, table: Any, rows: Sequence[tuple[Batch, Row]], ahead: list[Transaction]) -> None:
        if self._loop.chance.random() < self._conflicts:
            raise CommitFailedError("somebody was first")
        places = [f"{batch.topic}/{batch.partition}/{row.offset}" for batch, row in rows]
        self._tell(f"facts: {', '.join(places)}; applied {[(one.app_id, one.version) for one in ahead]}")
        table.before.append((dict(table.versions), len(table.rows)))
        table.rows.extend(rows)
        table.versions.update({transaction.app_id: transaction.version for transaction in ahead})

    def maintain(self, name: Any) -> None: ...


class Reader:
    """As much of `feedback.facts.reader.Facts` as the router reads."""

    def __init__(self, tables: dict[Any, Table]) -> None:
        self._tables = tables

    def verdicts(self) -> Iterator[Judgement]:
        for _, row in self._tables["verdicts"].rows:
            assert isinstance(row.event, Verdict | Unjudged)
            yield row.event

    def received_since(self, since_us: int) -> Iterator[tuple[int, int, Turn | Rating]]:
        for name in ("turns", "ratings"):
            for batch, row in self._tables[name].rows:
                if row.received_at_us > since_us:
                    yield batch.partition, row.received_at_us, row.event  # type: ignore[misc]


def lose_last(table: Table) -> None:
    """The machine lost power: the last commit never reached the disk."""
    if table.before:
        table.versions, length = table.before.pop()
        del table.rows[length:]


def applied(tables: dict[Any, Table], topic: str, partition: int) -> int:
    """Up to which offset a partition is among the facts."""
    return tables[TABLE_OF_TOPIC[topic]].versions.get(f"log/{topic}/{partition}", 0)
