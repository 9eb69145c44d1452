"""The history: what was written into it can't be changed, taken out or put in without its being found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select, update

from deploy.control import schema
from deploy.control.history import FIELDS, Entry, first_broken, read
from deploy.control.store import Control, open_control
from tests.deploy.postgres import fresh

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
DATA = st.none() | st.dictionaries(TEXTS, TEXTS | st.booleans() | st.floats(0, 1) | st.integers(0, 9), max_size=3)
ENTRIES = st.builds(
    Entry, st.integers(0, 2**62), TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.none() | TEXTS, TEXTS, DATA
)


class Undone(Exception):
    """Ends a transaction of which nothing is to stay."""


def written(control: Control, entries: list[Entry]) -> list[Entry]:
    with control.change() as tx:
        for entry in entries:
            tx.append(entry)
        return list(reversed(tx.history()))


def tampered(connection: Connection, number: int, column: str, value: Any) -> None:
    table = schema.history
    connection.execute(update(table).where(table.c.id == number).values({column: value}))


def test_the_history_shows_what_was_tampered_with(control: Control) -> None:
    for n in range(5):
        with control.change() as tx:
            tx.append(Entry(n, "ada", "halt", None, "serving", "halted", f"because {n}"))
    with control.change() as tx:
        assert first_broken(tx.connection) is None
        tx.connection.execute(update(schema.history).where(schema.history.c.id == 3).values(actor="eve"))
        assert first_broken(tx.connection) == 3
    with control.change() as tx:
        tx.connection.execute(schema.history.delete().where(schema.history.c.id == 2))
        assert first_broken(tx.connection) == 2


@pytest.mark.parametrize("data", [None, {"share": 0.05}])
@pytest.mark.parametrize("column", [*FIELDS, "sha256"])
def test_a_change_of_any_column_is_found_at_its_row(control: Control, column: str, data: dict[str, Any] | None) -> None:
    written(control, [Entry(n, "ada", "halt", "s", "serving", "halted", "why", data) for n in range(3)])
    other: dict[str, Any] = {"at_us": 7, "data": {"share": 0.06}}
    with control.change() as tx:
        tampered(tx.connection, 2, column, other.get(column, "x"))
        assert first_broken(tx.connection) == 2


def test_a_row_put_in_between_is_found(control: Control) -> None:
    written(control, [Entry(n, "ada", "halt", None, None, None, "") for n in range(2)])
    with control.change() as tx:
        table = schema.history
        last = tx.connection.execute(select(table).where(table.c.id == 2)).one()._asdict()
        tx.connection.execute(insert(table).values(last | {"id": 3}))
        assert first_broken(tx.connection) == 3


def test_a_history_that_begins_anew_after_its_first_rows_were_taken_out_is_found(control: Control) -> None:
    written(control, [Entry(n, "ada", "halt", None, None, None, "") for n in range(3)])
    with control.change() as tx:
        tx.connection.execute(delete(schema.history).where(schema.history.c.id == 1))
        assert first_broken(tx.connection) == 1


def test_whatever_is_written_is_read_again_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    control = open_control(tmp_path / "control.db")
    read_again(control)
    control.close()


@pytest.mark.slow
def test_on_postgresql_too(postgres: str) -> None:
    with fresh(postgres, "history") as url:
        control = open_control(url)
        read_again(control)
        control.close()


def read_again(control: Control) -> None:
    """Each example is undone after."""

    @settings(max_examples=25)
    @given(st.lists(ENTRIES, max_size=5))
    def check(entries: list[Entry]) -> None:
        try:
            with control.change() as tx:
                for entry in entries:
                    tx.append(entry)
                told = list(reversed(tx.history()))
                assert [(entry.number, *fields(entry)) for entry in told] == [
                    (number, *fields(entry)) for number, entry in enumerate(entries, 1)
                ]
                assert first_broken(tx.connection) is None
                raise Undone
        except Undone:
            pass

    check()


def fields(entry: Entry) -> list[Any]:
    return [getattr(entry, name) for name in FIELDS]


def test_it_comes_in_pages_newest_first_of_one_subject_or_all(control: Control) -> None:
    written(control, [Entry(n, "ada", "halt", f"s-{n % 2}", None, None, "") for n in range(1, 8)])
    with control.read() as tx:
        assert [entry.number for entry in read(tx.connection, 3)] == [7, 6, 5]
        assert [entry.number for entry in read(tx.connection, 3, before=5)] == [4, 3, 2]
        assert [entry.number for entry in read(tx.connection, 2, subject="s-1", before=7)] == [5, 3]
        assert [entry.number for entry in read(tx.connection, before=1)] == []
        assert len(read(tx.connection, before=10**30)) == 7
        assert read(tx.connection, before=-(10**30)) == []


@pytest.mark.parametrize("subject", ["\x00", "\udcff", "s-1\x00", "s-3"])
def test_a_subject_that_nothing_is_called_has_no_history(control: Control, subject: str) -> None:
    written(control, [Entry(1, "ada", "halt", "s-1", None, None, "")])
    with control.read() as tx:
        assert read(tx.connection, subject=subject) == []


@pytest.mark.slow
def test_on_postgresql_it_has_none_either_and_no_number_is_too_great(postgres: str) -> None:
    with fresh(postgres, "subjects") as url:
        control = open_control(url)
        written(control, [Entry(1, "ada", "halt", "s-1", None, None, "")])
        with control.read() as tx:
            assert read(tx.connection, subject="\x00") == []
            assert len(read(tx.connection, before=10**30)) == 1
            assert read(tx.connection, before=-(10**30)) == []
        control.close()
