import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.dataset import snapshot, tables
from feedback.dataset.tables import TABLES, Record, Row, TableName, canonical, hash_of, record_of, row_of, schema_of
from feedback.records import Demonstration, Provenance
from tests.feedback.builders import AS_OF_US, says
from tests.feedback.dataset.test_compute import EVENTS, dataset_hash
from tests.feedback.dataset.test_snapshot import seal


def test_columns_are_the_fields_of_the_records(tmp_path: Path) -> None:
    pairs = pq.read_table(seal(tmp_path, *EVENTS).path / "pairs.parquet")
    assert pairs.column_names == [
        "id", "prompt", "chosen", "rejected", "how", "preference", "weight", "split", "tenant", "conversation_id",
        "turn_id", "locale", "provenance", "rejected_ended", "source",
    ]  # fmt: skip
    row = next(row for row in pairs.to_pylist() if row["how"] == "pick")
    assert json.loads(row["prompt"]) == says("where is it?")
    assert json.loads(row["provenance"])["event_ids"] == ["b"]
    assert row["source"] == "user"


def test_records_read_back_are_those_that_were_sealed(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (first, second) = snapshot.read(sealed.path, "pairs")
    assert first.id < second.id
    assert {(pair.how, pair.chosen, pair.provenance.rater) for pair in (first, second)} == {
        ("pick", "here", "hashed user"),
        ("edit", "over there", "hashed user"),
    }
    assert [turn.turn_id for turn in snapshot.read(sealed.path, "turns")] == ["t1", "t2", "t3"]


def test_the_hash_covers_the_moment_and_the_rules(tmp_path: Path) -> None:
    assert dataset_hash(*EVENTS, rules_version="0") != dataset_hash(*EVENTS)
    assert seal(tmp_path, *EVENTS, as_of_us=AS_OF_US + 1).dataset_hash != dataset_hash(*EVENTS)


def test_a_snapshot_from_before_it_was_known_what_ended_is_read_and_has_its_hash(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    before = [
        {name: value for name, value in row.items() if name != "rejected_ended"}
        for row in tables.read(sealed.path, "pairs")
    ]
    schema = schema_of("pairs").remove(schema_of("pairs").names.index("rejected_ended"))
    pq.write_table(pa.Table.from_pylist(before, schema=schema), sealed.path / "pairs.parquet")
    assert snapshot.verify(sealed.path).dataset_hash == sealed.dataset_hash
    assert [pair.rejected_ended for pair in snapshot.read(sealed.path, "pairs")] == [True, True]


def test_that_a_reply_was_cut_is_part_of_what_a_row_says(tmp_path: Path) -> None:
    row = next(tables.read(seal(tmp_path, *EVENTS).path, "pairs"))
    assert canonical(row | {"rejected_ended": False}) != canonical(row)


MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=9)}), max_size=2)
PROVENANCE = st.builds(
    Provenance,
    source=st.sampled_from(["user", "judge"]),
    event_ids=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    at_us=st.integers(0, 2**53),
    rater=st.one_of(st.none(), st.text(max_size=3)),
    confidence=st.one_of(st.none(), st.floats(0, 1)),
)


@st.composite
def records(draw: st.DrawFn) -> tuple[TableName, Any]:
    """A table and a record of it, with any text in it."""
    table = draw(st.sampled_from(TABLES))
    given: dict[str, st.SearchStrategy[Any]] = {"prompt": MESSAGES, "provenance": PROVENANCE}
    kind = tables.RECORD[table]
    fields = {name: given[name] for name in given.keys() & set(kind.__struct_fields__)}
    return table, draw(st.builds(kind, **fields))


@given(records())
def test_a_record_is_the_same_after_it_was_a_row(one: tuple[TableName, Any]) -> None:
    table, record = one
    row = row_of(record)
    assert record_of(table, row) == record
    assert list(row) == schema_of(table).names


def test_rows_are_the_same_after_they_were_a_file(tmp_path: Path) -> None:
    odd = demonstration(prompt=says("\x00 🙂 \n"), reply="", weight=0.1 + 0.2, locale=None)
    rows = [row_of(odd)] * 2_500
    tables.write(tmp_path / "demonstrations.parquet", "demonstrations", rows)
    assert list(tables.read(tmp_path, "demonstrations")) == rows


def test_some_columns_are_read_without_the_others(tmp_path: Path) -> None:
    rows = [row_of(demonstration(turn_id=f"t-{n}")) for n in range(3)]
    tables.write(tmp_path / "demonstrations.parquet", "demonstrations", rows)
    found = list(tables.columns(tmp_path, "demonstrations", ("turn_id", "split")))
    assert found == [(f"t-{n}", "train") for n in range(3)]


def test_a_row_without_what_every_row_has_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tenant"):
        tables.write(tmp_path / "x.parquet", "demonstrations", [row_of(demonstration()) | {"tenant": None}])


def demonstration(**changes: Any) -> Record:
    who = Provenance(source="user", event_ids=("e",), at_us=1, rater="u_1")
    fields: dict[str, Any] = {
        "split": "train",
        "tenant": "default",
        "conversation_id": "c",
        "turn_id": "t",
        "locale": "en",
    }
    defaults: dict[str, Any] = {"id": "d", "prompt": says("?"), "reply": "!", "weight": 1.0, "provenance": who}
    return Demonstration(**fields | defaults | changes)


def only(row: Row) -> dict[TableName, list[Row]]:
    return {table: [row] if table == "demonstrations" else [] for table in TABLES}


def test_what_a_row_says_is_all_but_who_said_it() -> None:
    row = row_of(demonstration())
    by_other = msgspec.json.decode(row["provenance"]) | {"rater": "u_2"}
    assert canonical(row | {"provenance": json.dumps(by_other)}) == canonical(row)
    others = {name: value + 1 if isinstance(value, float) else f"{value}x" for name, value in row.items()}
    changed = [row | {name: others[name]} for name in row if name != "provenance"]
    later = msgspec.json.decode(row["provenance"]) | {"at_us": 2}
    changed.append(row | {"provenance": json.dumps(later)})
    assert len({canonical(one) for one in (row, *changed)}) == len(row) + 1


def test_the_hash_tells_in_which_table_a_row_lies() -> None:
    row = row_of(demonstration())
    there = only(row) | {"demonstrations": [], "unpaired": [row]}
    assert hash_of(only(row), 1, "2") != hash_of(there, 1, "2")


def test_the_hash_does_not_depend_on_the_order_of_columns() -> None:
    row = row_of(demonstration())
    assert hash_of(only(dict(reversed(row.items()))), 1, "2") == hash_of(only(row), 1, "2")


def test_rows_are_in_order_of_tenant_and_id() -> None:
    mixed = [demonstration(tenant=tenant, id=name) for tenant in "ba" for name in ("2", "10", "1")]
    assert [(row["tenant"], row["id"]) for row in tables.sorted_rows(mixed)] == [
        (tenant, name) for tenant in "ab" for name in ("1", "10", "2")
    ]
