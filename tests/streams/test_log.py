"""What every log is asked: how far groups have come, and all of a topic's records, while others go on writing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.intake.edge import Record
from feedback.topics import DEAD_LETTERS, FACTS, JUDGE_REQUESTS, REDRIVEN
from streams import log as log_module
from streams.log import DAY_S, TP, Standing, kept_s, lag, lag_of, scan, scan_partition, standings
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK


def record(number: int, topic: str = "a") -> Record:
    return Record(topic, b"%d" % number, b"%d" % number)


class Busy(SqliteLog):
    """While anybody looks, others append a record and do all there is."""

    def _work(self) -> None:
        self.append([record(0)])
        self.commit("g", super().ends())

    def ends(self) -> dict[TP, int]:
        self._work()
        return super().ends()

    def committed(self, group: str) -> dict[TP, int]:
        self._work()
        return super().committed(group)


def test_a_group_is_never_ahead_of_the_log_though_both_move_while_it_is_looked_at(tmp_path: Path) -> None:
    log = Busy(tmp_path / "log.db", CLOCK, partitions=1)
    assert all(standing.lag >= 0 for standing in standings(log, {"a": "g"}).values())
    assert lag(log, {"a": "g"})["a"] >= 0


def test_a_group_that_never_committed_has_everything_to_do_and_other_topics_are_left_out(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([*(record(n) for n in range(3)), record(1, "b"), record(1, "nobody does this")])
    log.commit("g", {("a", 0): 2})
    assert standings(log, {"a": "g", "b": "h"}) == {("a", 0): Standing(2, 3), ("b", 0): Standing(0, 1)}


def test_a_topic_that_is_not_there_has_no_lag_and_one_with_many_partitions_the_sum() -> None:
    places = {("a", 0): Standing(1, 4), ("a", 1): Standing(2, 2), ("a", 2): Standing(0, 5)}
    assert lag_of(places, ("a", "b")) == {"a": 8, "b": 0}


@settings(max_examples=25)
@given(records=st.integers(0, 25), run=st.integers(1, 6), starts=st.dictionaries(st.integers(0, 2), st.integers(0, 12)))
def test_a_scan_gives_every_record_from_its_start_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, records: int, run: int, starts: dict[int, int]
) -> None:
    log = SqliteLog(tmp_path_factory.mktemp("log") / "log.db", CLOCK, partitions=3)
    log.append([record(n) for n in range(records)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_module, "SCAN_RUN", run)
        found = [(stored.partition, stored.offset) for stored in scan(log, "a", starts)]
    ends = log.ends()
    assert found == [(p, offset) for p in range(3) for offset in range(starts.get(p, 0), ends.get(("a", p), 0))]


def test_a_scan_ends_where_the_log_ended_when_it_began(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([record(n) for n in range(3)])
    seen = []
    for stored in scan_partition(log, "a", 0):
        seen.append(stored.offset)
        log.append([record(9)])
    assert seen == [0, 1, 2]


def test_a_scan_of_what_was_trimmed_begins_at_the_oldest_record_kept(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([record(n) for n in range(5)])
    log.commit("g", {("a", 0): 3})
    log.trim(2**62, {"a": "g"})
    assert [stored.offset for stored in scan(log, "a")] == [3, 4]


def test_a_topic_that_is_not_there_is_scanned_to_no_records(tmp_path: Path) -> None:
    assert list(scan(SqliteLog(tmp_path / "log.db", CLOCK), "a")) == []


def test_what_a_person_has_to_look_at_is_kept_longer() -> None:
    assert {kept_s(topic) // DAY_S for topic in (*FACTS, JUDGE_REQUESTS)} == {7}
    assert {kept_s(topic) // DAY_S for topic in (DEAD_LETTERS, REDRIVEN)} == {30}
