"""The facts: every record lands once, whatever is replayed, raced or killed, and commits stay quick."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import COMPACT_EVERY, FactsWriter
from feedback.records import Rating, Turn, Unjudged, Verdict
from tests.fakes import CLOCK

DAY_US = 86_400_000_000
START_US = 1_767_268_800_000_000


def turn(number: int, day: int = 0) -> Turn:
    return Turn(
        tenant="default",
        event_id=f"e{number}",
        conversation_id=f"c{number % 7}",
        turn_id=f"t{number}",
        occurred_at_us=START_US + number + day * DAY_US,
        messages=[{"role": "user", "content": f"question {number}"}],
        reply=f"answer {number} \x00",
        policy="p",
    )


def log_of(name: str) -> Callable[[str], str]:
    """All topics of one log."""
    return lambda topic: name


def batch(first: int, last: int, partition: int = 0, topic: str = "turns.served") -> Batch:
    rows = tuple(Row(turn(n, n % 3), f"h{n}", f"d{n}", n, START_US) for n in range(first, last))
    return Batch(topic, partition, rows, last)


def event_ids(root: Path) -> list[str]:
    return sorted(found.event_id for found, _ in Facts(root).turns())


def test_what_was_committed_is_read_back_whole(tmp_path: Path) -> None:
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    writer.commit([batch(0, 3)])
    found = {found.event_id: (found, content_hash) for found, content_hash in Facts(tmp_path).turns()}
    assert found["e2"] == (turn(2, 2), "h2")


def test_ratings_and_verdicts_come_back_as_what_they_were(tmp_path: Path) -> None:
    rating = Rating(
        tenant="d", event_id="r", conversation_id="c", occurred_at_us=START_US, source="user", kind="pick",
        value={"over": "t0", "tie": False}, turn_id="t1",
    )  # fmt: skip
    verdict = Verdict(
        verdict_id="v", request_id="q", tenant="d", conversation_id="c", turn_id="t1", occurred_at_us=START_US, model="m",
        rubric="r", prompt_hash="p", confidence=0.5, rationale="because", score=0.25, items={"helpful": 0.25},
    )  # fmt: skip
    unjudged = Unjudged(
        verdict_id="u",
        request_id="q",
        tenant="d",
        conversation_id="c",
        turn_id="t2",
        occurred_at_us=START_US,
        reason="timeout",
    )
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    writer.commit(
        [
            Batch("ratings.given", 0, (Row(rating, "h", "d", 0, START_US),), 1),
            Batch(
                "verdicts.given", 0, tuple(Row(v, "h", "d", n, START_US) for n, v in enumerate([verdict, unjudged])), 2
            ),
        ]
    )
    facts = Facts(tmp_path)
    assert [(found.value.over, found.value.tie) for found, _ in facts.ratings()] == [("t0", False)]
    assert sorted(facts.verdicts(), key=lambda v: v.verdict_id) == [unjudged, verdict]


def test_an_overlapping_batch_is_trimmed_not_skipped(tmp_path: Path) -> None:
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    assert writer.commit([batch(0, 5)]) == 5
    assert writer.commit([batch(3, 8)]) == 3
    assert writer.commit([batch(0, 8)]) == 0
    assert len(event_ids(tmp_path)) == 8
    assert writer.applied("turns.served", 0) == 8


def test_a_run_of_nothing_but_dead_letters_still_moves_the_offset(tmp_path: Path) -> None:
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    writer.commit([Batch("turns.served", 0, (), 4)])
    assert writer.applied("turns.served", 0) == 4


def test_another_log_has_offsets_of_its_own(tmp_path: Path) -> None:
    FactsWriter(tmp_path, log_of("one"), CLOCK).commit([batch(0, 3)])
    other = FactsWriter(tmp_path, log_of("two"), CLOCK)
    assert other.applied("turns.served", 0) == 0
    other.commit([batch(0, 3)])
    assert len(event_ids(tmp_path)) == 6


def test_a_span_of_time_reads_only_what_lies_in_it(tmp_path: Path) -> None:
    FactsWriter(tmp_path, log_of("log"), CLOCK).commit([batch(0, 9)])
    since, until = START_US + DAY_US, START_US + 2 * DAY_US - 1
    assert {found.event_id for found, _ in Facts(tmp_path).turns(since, until)} == {"e1", "e4", "e7"}


def test_no_facts_yet_is_no_error(tmp_path: Path) -> None:
    assert list(Facts(tmp_path).turns()) == []
    assert Facts(tmp_path).columns("turns", ["event_id"]).num_rows == 0


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_any_replay_of_stretches_lands_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, stretches: list[tuple[int, int, int]], together: int
) -> None:
    root = tmp_path_factory.mktemp("facts")
    writer = FactsWriter(root, log_of("log"), CLOCK)
    reached = {0: 0, 1: 0, 2: 0}
    batches = []
    for partition, first, length in stretches:
        first = min(first, reached[partition])  # a log is read without holes
        reached[partition] = max(reached[partition], first + length)
        batches.append(batch(first, first + length, partition))
    for start in range(0, len(batches), together):
        writer.commit(batches[start : start + together])
    rows = Facts(root).columns("turns", ["partition", "offset"]).to_pylist()
    assert sorted((row["partition"], row["offset"]) for row in rows) == [
        (partition, offset) for partition in range(3) for offset in range(reached[partition])
    ]


def test_a_run_that_comes_again_before_it_was_committed_lands_once(tmp_path: Path) -> None:
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    assert writer.commit([batch(0, 6), batch(2, 9), batch(0, 6), batch(0, 3, 1)]) == 12
    assert len(event_ids(tmp_path)) == 12


def test_a_question_in_mid_commit_does_not_hide_what_another_writer_did_meanwhile(tmp_path: Path) -> None:
    """A worker was frozen in mid-commit, another did its work; then it is asked where to begin, and goes on."""
    in_commit, go_on = threading.Event(), threading.Event()

    class Frozen(FactsWriter):
        def _append(self, *arguments: Any) -> None:
            if not in_commit.is_set():
                in_commit.set()
                assert go_on.wait(60)
            super()._append(*arguments)

    frozen, other = Frozen(tmp_path, log_of("log"), CLOCK), FactsWriter(tmp_path, log_of("log"), CLOCK)
    with ThreadPoolExecutor() as pool:
        committed = pool.submit(frozen.commit, [batch(0, 10)])
        assert in_commit.wait(60)
        assert other.commit([batch(0, 10)]) == 10
        asked = pool.submit(frozen.applied, "turns.served", 0)
        wait([asked], timeout=1)  # it may have to wait for the commit
        go_on.set()
        assert committed.result(60) == 0
        assert asked.result(60) == 10
    assert len(event_ids(tmp_path)) == 10


def test_racing_writers_land_every_record_once(tmp_path: Path) -> None:
    def write() -> None:
        writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
        for first in range(0, 60, 4):
            writer.commit([batch(first, first + 4), batch(first, first + 4, 1)])

    with ThreadPoolExecutor(3) as threads:
        for written in [threads.submit(write) for _ in range(3)]:
            written.result()
    assert len(event_ids(tmp_path)) == 120


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.fakes import CLOCK
from tests.feedback.facts.test_writer import batch, log_of
from feedback.facts.writer import FactsWriter
writer = FactsWriter(Path(sys.argv[1]), log_of("log"), CLOCK)
print("ready", flush=True)
for first in range(writer.applied("turns.served", 0), 10_000, 5):
    writer.commit([batch(max(0, first - 3), first + 5)])
    print(first, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    for kill_after in (1, 9, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "facts"), str(root)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(kill_after + 1):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    writer = FactsWriter(tmp_path / "facts", log_of("log"), CLOCK)
    reached = writer.applied("turns.served", 0)
    assert reached > 0
    rows = Facts(tmp_path / "facts").columns("turns", ["offset"]).column("offset").to_pylist()
    assert sorted(rows) == list(range(reached))


@pytest.mark.slow
def test_commits_stay_as_quick_and_files_as_few_after_many_commits(tmp_path: Path) -> None:
    commits = int(os.environ.get("TRIMTAB_TEST_COMMITS", "450"))
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK, kept_for=timedelta(0))
    wall_s: list[float] = []
    cpu_s: list[float] = []
    most_files = 0
    for number in range(commits):
        started = time.perf_counter(), time.process_time()
        writer.commit([batch(number, number + 1)])
        wall_s.append(time.perf_counter() - started[0])
        cpu_s.append(time.process_time() - started[1])
        if number % 50 == 49:
            most_files = max(most_files, sum(len(files) for _, _, files in os.walk(tmp_path)))
    window = 2 * COMPACT_EVERY
    (first, last), (first_cpu, last_cpu) = (
        (statistics.median(took[:window]), statistics.median(took[-window:])) for took in (wall_s, cpu_s)
    )
    print(
        f"\n{commits} commits: {first * 1000:.1f} ms at first, {last * 1000:.1f} ms at last, at most {most_files} files"
    )
    assert last_cpu <= 2 * first_cpu  # not the wall clock: other work on the machine would decide
    assert most_files < 4 * COMPACT_EVERY
    assert len(event_ids(tmp_path)) == commits


def test_what_a_seal_reads_is_not_cleared_away_however_long_it_takes(tmp_path: Path) -> None:
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK, kept_for=timedelta(0))
    for number in range(5):
        writer.commit([batch(number, number + 1)])
    facts = Facts(tmp_path)
    with facts.pinned():
        reading = facts.turns()
        first = next(reading)
        files = set((tmp_path / "turns").rglob("*.parquet"))
        writer.maintain("turns")
        assert files <= set((tmp_path / "turns").rglob("*.parquet"))
        assert len({first[0].event_id, *(found.event_id for found, _ in reading)}) == 5
    writer.maintain("turns")
    assert not files <= set((tmp_path / "turns").rglob("*.parquet"))
    assert event_ids(tmp_path) == [f"e{number}" for number in range(5)]


def test_a_disk_that_is_nearly_full_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one that is full delta-rs panics in a thread of its own, with a stack on stderr."""
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    monkeypatch.setattr("feedback.durable.free_bytes", lambda _: 1_000.0)
    with pytest.raises(OSError, match="No space left"):
        writer.commit([batch(0, 5)])
    monkeypatch.undo()
    assert writer.commit([batch(0, 5)]) == 5
