"""What names a turn, and what a rating is of."""

from feedback.records import RANKS
from tests.feedback.builders import rating, turn


def test_a_turn_is_named_by_tenant_conversation_and_id_and_a_rating_by_its_turns_name() -> None:
    assert turn("t1").key == rating("a", "t1", "thumbs", True).key == ("default", "c1", "t1")
    assert rating("a", None, "stars", 4).key is None


def test_what_was_served_here_counts_before_what_others_say() -> None:
    assert RANKS["feedback"] < RANKS["file"] == RANKS["ingest"] < RANKS["label"] < RANKS["gateway"]
