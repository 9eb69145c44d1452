"""Reading facts, whatever an older version wrote among them."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.records import Rating, Unjudged
from tests.fakes import CLOCK
from tests.feedback.facts.test_writer import START_US, batch, log_of, turn

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
