"""One view of the facts, and labels counted by where they stood in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from feedback.facts.reader import Facts, FactsDamaged
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.records import Rating, Unjudged, Verdict
from tests.fakes import CLOCK
from tests.feedback import builders
from tests.feedback.facts.test_writer import batch, log_of, turn

START_US = 1_767_268_800_000_000
KINDS = ("thumbs",)


def rating(name: str, kind: str = "thumbs", source: str = "user", tenant: str = "default") -> Rating:
    return Rating(
        tenant=tenant, event_id=name, conversation_id="c", occurred_at_us=START_US, source=source, kind=kind,  # type: ignore[arg-type]
        value=True, turn_id="t",
    )  # fmt: skip


def verdict(name: str) -> Verdict:
    return Verdict(
        verdict_id=name, request_id="q", tenant="default", conversation_id="c", turn_id="t1", occurred_at_us=START_US,
        model="m", rubric="r", prompt_hash="p", confidence=0.5, rationale="because", score=0.25, items={},
    )  # fmt: skip


def unjudged(name: str) -> Unjudged:
    return Unjudged(
        verdict_id=name, request_id="q", tenant="default", conversation_id="c", turn_id="t1", occurred_at_us=START_US,
        reason="timeout",
    )  # fmt: skip


class Log:
    """One log's worth of facts, partition by partition."""

    def __init__(self, root: Path, name: str = "log") -> None:
        self._writer = FactsWriter(root, lambda topic: name, CLOCK)
        self._ends: dict[tuple[str, int], int] = {}

    def write(self, *events: Rating | Verdict | Unjudged, partition: int = 0, at_us: int = START_US) -> None:
        for event in events:
            topic = "ratings.given" if isinstance(event, Rating) else "verdicts.given"
            offset = self._ends.get((topic, partition), 0)
            self._ends[topic, partition] = offset + 1
            self._writer.commit([Batch(topic, partition, (Row(event, "h", "d", offset, at_us),), offset + 1)])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_labels_beyond_a_position_are_new_whenever_they_were_received(tmp_path: Path, log: Log) -> None:
    log.write(rating("a"), verdict("v"), at_us=START_US + 10)
    before = Facts(tmp_path).positions()
    assert before == {"log/ratings.given/0": 1, "log/verdicts.given/0": 1}
    assert Facts(tmp_path).labels_since(before, KINDS) == (0, 0)
    log.write(rating("b"), rating("c", tenant="other"), rating("c"), verdict("w"), unjudged("u"), at_us=START_US)
    log.write(rating("d", kind="comment"), rating("e", source="system"))
    log.write(rating("f"), partition=3)
    assert Facts(tmp_path).labels_since(before, KINDS) == (4, 1)
    assert Facts(tmp_path).labels_since({}, KINDS) == (5, 2)


def test_another_log_has_positions_of_its_own(tmp_path: Path, log: Log) -> None:
    log.write(rating("a"), rating("b"))
    before = Facts(tmp_path).positions()
    Log(tmp_path, "another").write(rating("c"))
    assert Facts(tmp_path).labels_since(before, KINDS) == (1, 0)
    assert Facts(tmp_path).positions() == {"log/ratings.given/0": 2, "another/ratings.given/0": 1}


def test_a_label_that_is_sent_again_is_not_new(tmp_path: Path, log: Log) -> None:
    log.write(rating("a"))
    before = Facts(tmp_path).positions()
    log.write(rating("a"), rating("b"), rating("b"), at_us=START_US + 10)
    assert Facts(tmp_path).labels_since(before, KINDS) == (1, 0)
    assert Facts(tmp_path).labels_since(START_US, KINDS) == (1, 0)


def test_a_question_that_is_answered_after_all_is_a_new_label(tmp_path: Path, log: Log) -> None:
    log.write(unjudged("v"))
    before = Facts(tmp_path).positions()
    log.write(verdict("v"))
    assert Facts(tmp_path).labels_since(before, KINDS) == (0, 1)


def test_where_no_positions_are_known_the_time_of_receipt_counts(tmp_path: Path, log: Log) -> None:
    log.write(rating("a"), at_us=START_US)
    log.write(rating("b"), at_us=START_US + 1)
    assert Facts(tmp_path).labels_since(START_US, KINDS) == (1, 0)


def test_turns_before_a_moment_are_known_by_their_conversation(tmp_path: Path) -> None:
    old, new = (builders.turn(name, occurred_at_us=START_US + n) for n, name in enumerate(("t1", "t2")))
    rows = tuple(Row(each, "h", "d", offset, START_US) for offset, each in enumerate((old, new)))
    FactsWriter(tmp_path, lambda topic: "log", CLOCK).commit([Batch("turns.served", 0, rows, 2)])
    asked = {old.key, new.key, ("default", "another", "t1")}
    assert Facts(tmp_path).known_before(START_US + 1, asked) == {old.key}
    assert (
        Facts(tmp_path / "none").known_before(START_US, asked) == Facts(tmp_path).known_before(START_US, set()) == set()
    )


def test_no_facts_have_no_labels(tmp_path: Path) -> None:
    assert Facts(tmp_path).positions() == {}
    assert Facts(tmp_path).labels_since({}, KINDS) == (0, 0)


def test_pinned_facts_are_those_of_one_moment(tmp_path: Path, log: Log) -> None:
    log.write(rating("a"), verdict("v"))
    with Facts(tmp_path).pinned() as facts:
        log.write(rating("b"), verdict("w"))
        assert [found.event_id for found, _ in facts.ratings()] == ["a"]
        assert [found.verdict_id for found in facts.verdicts()] == ["v"]
        assert facts.labels_since({}, KINDS) == (1, 1)
        positions = facts.positions()
    assert Facts(tmp_path).labels_since(positions, KINDS) == (1, 1)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 1)) | st.none(), max_size=12))
def test_each_label_is_new_to_one_sealing_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int] | None]
) -> None:
    """None: a snapshot is sealed."""
    root = tmp_path_factory.mktemp("facts")
    log, counted, seen, positions = Log(root), 0, set[str](), {}
    for step in [*steps, None]:
        if step is None:
            with Facts(root).pinned() as facts:
                counted += facts.labels_since(positions, KINDS)[0]
                positions = facts.positions()
            assert counted == len(seen)
        else:
            name, partition = step
            log.write(rating(name), partition=partition)
            seen.add(name)


RATING = Rating(
    tenant="d", event_id="r", conversation_id="c", occurred_at_us=START_US, source="user", kind="thumbs", value=True,
    turn_id="t1",
)  # fmt: skip
UNJUDGED = Unjudged(
    verdict_id="u", request_id="q", tenant="d", conversation_id="c", turn_id="t1", occurred_at_us=START_US, reason="r"
)


def test_a_fact_of_another_kind_than_its_table_is_left_out_and_told(tmp_path: Path) -> None:
    """Before topics took only their own kind, a rating on the topic of turns became a row of turns."""
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    writer.commit([batch(0, 2), Batch("turns.served", 1, (Row(RATING, "h", "d", 0, START_US),), 1)])
    writer.commit([Batch("ratings.given", 0, (Row(turn(7), "h", "d", 0, START_US), Row(RATING, "h", "d", 1, 0)), 2)])
    writer.commit([Batch("verdicts.given", 0, (Row(RATING, "h", "d", 0, 0), Row(UNJUDGED, "h", "d", 1, 0)), 2)])
    facts = Facts(tmp_path)
    with capture_logs() as told:
        assert sorted(found.event_id for found, _ in facts.turns()) == ["e0", "e1"]
        assert [found.event_id for found, _ in facts.ratings()] == ["r"]
        assert list(facts.verdicts()) == [UNJUDGED]
    assert [(line["event"], line["table"], line["rows"]) for line in told] == [
        ("facts_of_another_kind", "turns", 1),
        ("facts_of_another_kind", "ratings", 1),
        ("facts_of_another_kind", "verdicts", 1),
    ]


def test_a_rating_among_the_turns_settles_no_turn(tmp_path: Path) -> None:
    writer = FactsWriter(tmp_path, log_of("log"), CLOCK)
    writer.commit([batch(0, 2), Batch("turns.served", 1, (Row(RATING, "h", "d", 0, START_US),), 1)])
    assert sorted(event.event_id for _, _, event in Facts(tmp_path).received_since(0)) == ["e0", "e1"]


def test_no_thread_of_pyarrow_calls_python_while_facts_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends just then would be aborted: 2 of 720 short commands on a busy machine."""
    FactsWriter(tmp_path, log_of("log"), CLOCK).commit([batch(0, 2)])

    def called(*_: object, **__: object) -> None:
        raise AssertionError("deltalake's way to files is Python")

    monkeypatch.setattr("deltalake.fs.DeltaStorageHandler.from_table", called)
    facts = Facts(tmp_path)
    assert list(facts.turns())
    assert list(facts.batches("turns", ["record"]))
    assert facts.turns_before(2**62)
    assert facts.columns("turns", ["log"]).num_rows


@pytest.mark.parametrize("damage", ["cut off", "gone", "no log"])
def test_a_file_that_is_damaged_or_gone_is_one_sentence_however_it_is_read(
    log: Log, tmp_path: Path, damage: str
) -> None:
    log.write(rating("a"))
    facts = Facts(tmp_path)
    if damage == "no log":
        next((tmp_path / "ratings" / "_delta_log").glob("*.json")).write_bytes(b"garbage")
    else:
        (file,) = (tmp_path / "ratings").glob("*/*.parquet")
        file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:100])
    reading: list[Callable[[], object]] = [
        lambda: list(facts.ratings()),
        lambda: facts.columns("ratings", ["event_id"]),
        lambda: list(facts.batches("ratings", ["event_id"])),
        facts.positions,
    ]
    for read in reading:
        with pytest.raises(FactsDamaged, match=r"a file of the facts \(ratings\) is damaged or gone .* backup"):
            read()
