"""What enters the house: redacted, stamped, signed; and whose signature counts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback import splits
from feedback.intake.contract import Rejected
from feedback.intake.edge import SIGNATURE_HEADER, Edge, Record, content_hash, encoded
from feedback.records import Pick, Rating, Turn
from feedback.topics import RATINGS, TURNS
from tests.feedback.intake.test_contract import NOW_US, RATING, TURN, documents

EDGE = Edge(b"key")


def record(document: dict[str, Any], edge: Edge = EDGE) -> Record:
    entered = edge.record(json.dumps(document).encode(), NOW_US)
    assert isinstance(entered, Record)
    return entered


def admitted(value: bytes, headers: tuple[tuple[str, bytes], ...] = (), edge: Edge = EDGE) -> Turn | Rating:
    event = edge.admit(value, headers, NOW_US)
    assert not isinstance(event, Rejected)
    return event


@settings(max_examples=100)
@given(documents())
def test_a_record_is_admitted_as_it_was_signed_and_as_it_would_be_unsigned(document: dict[str, Any]) -> None:
    entered = record(document)
    event = admitted(entered.value, entered.headers)
    assert EDGE.signed(event) == entered
    if isinstance(event, Turn):
        assert EDGE.signed(event, encoded(event.messages)) == entered, "made once, the record is the same"
    if document.get("rollout") is None:
        assert event == admitted(json.dumps(document).encode())


def test_events_of_one_conversation_stay_together_each_on_its_topic() -> None:
    turn, rating = record(TURN), record(RATING)
    assert (turn.topic, rating.topic) == (TURNS, RATINGS)
    assert turn.key == rating.key == b"default/c1"
    assert record(TURN | {"tenant": "acme"}).key == b"acme/c1"


PERSONAL = "write to ann@example.com"
PLAIN = "write to [email]"


def test_personal_data_is_gone_from_all_that_people_wrote() -> None:
    messages = [{"role": "user", "content": PERSONAL}]
    turn = admitted(
        json.dumps(TURN | {"messages": messages, "reply": PERSONAL, "tags": {"a": PERSONAL}, "x": PERSONAL}).encode()
    )
    assert isinstance(turn, Turn)
    assert (turn.messages[0]["content"], turn.reply, turn.tags, turn.extra) == (
        PLAIN,
        PLAIN,
        {"a": PLAIN},
        {"x": PLAIN},
    )
    parts = {"role": "assistant", "content": [{"type": "text", "text": PERSONAL}]}
    turn = admitted(json.dumps(TURN | {"reply": parts}).encode())
    assert isinstance(turn, Turn)
    assert turn.reply == {"role": "assistant", "content": [{"type": "text", "text": PLAIN}]}


@pytest.mark.parametrize("kind", ["edit", "comment"])
@pytest.mark.parametrize(("value", "kept"), [(PERSONAL, PLAIN), (None, None)])
def test_what_a_rater_wrote_is_redacted_and_what_was_taken_back_stays_so(
    kind: str, value: str | None, kept: str | None
) -> None:
    rating = admitted(json.dumps(RATING | {"kind": kind, "value": value}).encode())
    assert isinstance(rating, Rating)
    assert rating.value == kept


def test_the_bucket_is_stamped_from_the_user_before_the_name_is_hashed_away() -> None:
    theirs, nobodys = admitted(json.dumps(TURN | {"user_id": "ann"}).encode()), admitted(json.dumps(TURN).encode())
    assert (theirs.bucket, theirs.user_id) == (splits.bucket("ann", "default"), EDGE.user("ann"))
    assert (nobodys.bucket, nobodys.user_id) == (splits.bucket("c1", "default"), None)
    under_other_key = admitted(json.dumps(TURN | {"user_id": "ann"}).encode(), edge=Edge(b"other"))
    assert under_other_key.bucket == theirs.bucket
    assert under_other_key.user_id != theirs.user_id


def test_a_hash_of_the_content_does_not_depend_on_the_key_and_covers_the_rest() -> None:
    said = json.dumps(TURN | {"user_id": "ann"}).encode()
    mine, other = admitted(said), admitted(said, edge=Edge(b"other"))
    assert content_hash(mine) == content_hash(other)
    assert content_hash(msgspec.structs.replace(mine, bucket=(mine.bucket + 1) % 100)) != content_hash(mine)


CLAIM = {"id": "r1", "arm": "candidate", "share": 0.1}


@pytest.mark.parametrize("edge", [Edge(b"other key"), None], ids=["signed with another key", "unsigned"])
def test_what_we_did_not_sign_is_redacted_here_and_is_evidence_for_nothing(edge: Edge | None) -> None:
    gateways = msgspec.convert(
        {**TURN, "occurred_at_us": NOW_US, "tenant": "default", "reply": PERSONAL, "rollout": CLAIM}, Turn
    )
    headers = edge.signed(gateways).headers if edge is not None else ()
    event = admitted(json.dumps(TURN | {"reply": PERSONAL, "rollout": CLAIM}).encode(), headers)
    assert isinstance(event, Turn)
    assert (event.reply, event.rollout) == (PLAIN, None)


def test_what_our_gateway_signed_keeps_its_rollout_and_a_file_that_claims_one_does_not() -> None:
    signed = EDGE.record_of(TURN | {"rollout": CLAIM}, NOW_US)
    assert isinstance(signed, Record)
    turn = admitted(signed.value, signed.headers)
    assert isinstance(turn, Turn)
    assert turn.rollout == CLAIM
    from_file = record(TURN | {"rollout": CLAIM})
    turn = admitted(from_file.value, from_file.headers)
    assert isinstance(turn, Turn)
    assert turn.rollout is None


@settings(max_examples=100)
@given(st.binary(max_size=40), st.integers(0, 10_000))
def test_a_signature_is_of_these_very_bytes(signature: bytes, place: int) -> None:
    entered = record(RATING)
    changed = bytearray(entered.value)
    changed[place % len(changed)] ^= 1
    assert isinstance(EDGE.admit(bytes(changed), entered.headers, NOW_US), Rejected)
    # what is signed has fields of its own (`occurred_at_us`), so that unsigned it is no event from outside
    assert isinstance(EDGE.admit(entered.value, ((SIGNATURE_HEADER, signature),), NOW_US), Rejected)


def test_a_signed_rating_has_a_typed_value_again() -> None:
    entered = record(RATING | {"kind": "pick", "value": {"over": "t0"}})
    rating = admitted(entered.value, entered.headers)
    assert isinstance(rating, Rating)
    assert rating.value == Pick("t0")


@pytest.mark.parametrize("document", [TURN | {"messages": "hello"}, RATING | {"value": "perhaps"}, []])
def test_what_is_no_event_is_rejected_whichever_way_it_comes(document: Any) -> None:
    raw = json.dumps(document).encode()
    assert isinstance(EDGE.record(raw, NOW_US), Rejected)
    assert EDGE.record(raw, NOW_US) == EDGE.admit(raw, (), NOW_US)
    if isinstance(document, dict):
        assert isinstance(EDGE.record_of(document, NOW_US), Rejected)
