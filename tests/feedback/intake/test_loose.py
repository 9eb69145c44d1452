"""Numbers, booleans and nulls where the contract says text: taken where there is no doubt what is meant, else refused."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.intake.contract import Rejected
from feedback.records import Pick, Rating, Turn
from tests.feedback.intake.test_contract import RATING, TURN, parsed


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"version": 3}, {"version": "3"}),
        ({"score": 2.5}, {"score": "2.5"}),
        ({"version": 2.0}, {"version": "2.0"}),
        ({"beta": True, "old": False}, {"beta": "true", "old": "false"}),
        ({"team": None}, {}),
        ({"team": None, "n": -1, "x": "y"}, {"n": "-1", "x": "y"}),
        (None, {}),
    ],
)
def test_a_tag_is_the_text_that_json_has_for_it_and_null_is_left_out(sent: Any, kept: dict[str, str]) -> None:
    for base in (TURN, RATING):
        event = parsed(base, tags=sent)
        assert isinstance(event, Turn | Rating)
        assert event.tags == kept


@pytest.mark.parametrize("tags", [["a", "b"], "a", 3, {"a": []}, {"a": {"b": "c"}}])
def test_tags_that_are_lists_or_hold_objects_are_refused(tags: Any) -> None:
    rejected = parsed(TURN, tags=tags)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "wrong_type"
    assert "tags" in rejected.message


def test_tags_that_are_null_count_for_nothing_in_the_limit() -> None:
    assert isinstance(parsed(TURN, tags={f"t{n}": None for n in range(100)}), Turn)


@pytest.mark.parametrize(
    "name", ["event_id", "conversation_id", "turn_id", "user_id", "tenant", "replaces", "policy", "base"]
)
@pytest.mark.parametrize(("sent", "kept"), [(17, "17"), (17.0, "17"), (0, "0"), (1_234_567_890_123_456_789, None)])
def test_an_id_that_is_a_whole_number_is_that_text(name: str, sent: float, kept: str | None) -> None:
    turn = parsed(TURN, **{name: sent})
    assert isinstance(turn, Turn)
    assert getattr(turn, name) == (kept or str(sent))


@pytest.mark.parametrize("sent", [True, 2.5, ["17"], {"id": 17}, 1e300, 2**60 * 1.0])
@pytest.mark.parametrize("name", ["event_id", "user_id", "policy"])
def test_an_id_that_is_no_whole_number_is_refused(name: str, sent: Any) -> None:
    rejected = parsed(TURN, **{name: sent})
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == ("wrong_type", name)


def test_ids_of_a_rating_are_the_same_text_as_those_of_its_turn() -> None:
    turn, rating = parsed(TURN, turn_id=2, conversation_id=12), parsed(RATING, turn_id=2.0, conversation_id="12")
    assert isinstance(turn, Turn)
    assert isinstance(rating, Rating)
    assert (turn.turn_id, turn.conversation_id) == (rating.turn_id, rating.conversation_id) == ("2", "12")
    pick = parsed(RATING, turn_id=2, kind="pick", value={"over": 1, "tie": False})
    assert isinstance(pick, Rating)
    assert pick.value == Pick("1")


@pytest.mark.parametrize(("sent", "stars"), [(5.0, 5), (1.0, 1), (3, 3)])
def test_a_float_that_is_whole_counts_as_stars(sent: float, stars: int) -> None:
    rating = parsed(RATING, kind="stars", value=sent)
    assert isinstance(rating, Rating)
    assert rating.value == stars
    assert type(rating.value) is int


@pytest.mark.parametrize(
    ("kind", "value"),
    [("stars", 4.5), ("stars", 6.0), ("stars", 0.0), ("stars", True), ("thumbs", 1), ("thumbs", 1.0), ("score", True)],
)
def test_no_other_number_counts_as_a_rating_and_no_boolean_as_a_number(kind: str, value: Any) -> None:
    rejected = parsed(RATING, kind=kind, value=value)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == ("bad_value", "value")


def test_a_score_takes_whole_numbers_and_fractions_alike() -> None:
    for value in (0, 1, 1.0, 0.25):
        rating = parsed(RATING, kind="score", value={"name": "csat", "value": value})
        assert isinstance(rating, Rating)
        assert rating.value.value == value


def test_whole_floats_count_where_the_contract_wants_integers() -> None:
    turn = parsed(TURN, schema=1.0, truncated=2.0)
    assert isinstance(turn, Turn)
    assert turn.truncated == 2
    assert type(turn.truncated) is int
    assert isinstance(parsed(TURN, truncated=2.5), Rejected)


def test_null_says_no_more_than_silence_but_whether_to_learn_and_whose_it_is_are_not_guessed() -> None:
    turn = parsed(TURN, outcome=None, truncated=None, locale="", user_id=None, usage=None)
    assert isinstance(turn, Turn)
    assert turn == parsed(TURN)
    assert isinstance(parsed(TURN, train=None), Rejected)
    assert isinstance(parsed(TURN, tenant=None), Rejected)


@pytest.mark.parametrize(
    "usage",
    [
        {
            "prompt_tokens": 10,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": None},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        {"prompt_tokens": 10, "completion_tokens": None},
        {"prompt_tokens": 10, "total_tokens": 12},
        {"cost": 0.25, "service_tier": "default", "by": [1, None]},
        {},
        None,
    ],
)
def test_usage_is_kept_as_the_engine_said_it(usage: Any) -> None:
    turn = parsed(TURN, usage=usage, system_fingerprint="fp_1", choices=[{"index": 0}])
    assert isinstance(turn, Turn)
    assert turn.usage == usage
    assert turn.extra == {"system_fingerprint": "fp_1", "choices": [{"index": 0}]}
