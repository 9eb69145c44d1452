"""Feedback on one of several choices of a reply: each is a turn of its own."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.gateway.choices import picked, rated_turn
from deploy.gateway.turn_ids import TurnId, TurnIds
from deploy.web.errors import ApiError

IDS = TurnIds(b"key", nonce=bytes)
THREE = TurnId("t", "c", "candidate", "ab" * 8, choices=3)
FIRST = IDS.seal(THREE)
SECOND, THIRD = (IDS.choice(FIRST, choice) or "" for choice in (1, 2))
ONE = IDS.seal(TurnId("t", "c", "incumbent", None))
EARLIER = "tt1-BU2XWw8bbKw9F1booeEGWAABAgMEBQYHCAEUd8lFAp8WyQRhY21lYy0x"


@pytest.mark.parametrize(
    ("turn_id", "choice", "rated", "which"),
    [
        (FIRST, None, FIRST, 0),
        (FIRST, 0, FIRST, 0),
        (FIRST, 2, THIRD, 2),
        (SECOND, None, SECOND, 1),
        (SECOND, 2, THIRD, 2),
        (THIRD, 0, FIRST, 0),
        (ONE, 0, ONE, 0),
    ],
)
def test_a_choice_is_rated_by_the_replys_id_and_its_number_or_by_its_own_id(
    turn_id: str, choice: int | None, rated: str, which: int
) -> None:
    named, sealed = rated_turn({"turn_id": turn_id, "choice": choice}, IDS)
    assert named == rated
    assert sealed is not None
    assert sealed == IDS.open(rated)
    assert sealed.choice == which


def test_an_id_of_the_version_before_is_the_only_choice_of_its_reply() -> None:
    ids = TurnIds(b"k" * 32)
    assert rated_turn({"turn_id": EARLIER, "choice": 0}, ids)[0] == EARLIER
    with pytest.raises(ApiError, match="choice is 1, but this reply has 1 choice: 0"):
        rated_turn({"turn_id": EARLIER, "choice": 1}, ids)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"turn_id": FIRST, "choice": 3}, "choice is 3, but this reply has 3 choices: 0 to 2"),
        ({"turn_id": ONE, "choice": 1}, "choice is 1, but this reply has 1 choice: 0"),
        ({"turn_id": FIRST, "choice": 2**63}, "has 3 choices"),
        ({"turn_id": FIRST, "choice": -1}, "choice must be a whole number from 0"),
        ({"turn_id": FIRST, "choice": "1"}, "choice must be a whole number from 0"),
        ({"turn_id": FIRST, "choice": 1.0}, "choice must be a whole number from 0"),
        ({"turn_id": FIRST, "choice": True}, "choice must be a whole number from 0"),
        ({"turn_id": "a-turn-of-ours", "choice": 0}, "turn_id must be one that this service sealed"),
        ({"choice": 0}, "turn_id must be one that this service sealed"),
    ],
)
def test_a_choice_that_there_is_not_is_a_400_that_says_which_there_are(body: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said) as refused:
        rated_turn(body, IDS)
    assert (refused.value.status, refused.value.param) == (400, "choice")


@pytest.mark.parametrize("turn_id", ["tt1-" + "A" * 60, "tt2-" + "A" * 90, FIRST[:-1], "tt2-"])
def test_an_id_that_looks_like_ours_and_is_not_is_refused(turn_id: str) -> None:
    with pytest.raises(ApiError, match="not sealed by this service") as refused:
        rated_turn({"turn_id": turn_id}, IDS)
    assert (refused.value.status, refused.value.code) == (400, "forged_turn_id")


def test_an_id_of_somebody_elses_and_none_at_all_are_left_to_the_caller() -> None:
    assert rated_turn({"turn_id": "a-turn-of-ours"}, IDS) == ("a-turn-of-ours", None)
    assert rated_turn({}, IDS) == (None, None)


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ({"over_choice": 0}, {"over": FIRST}),
        ({"over_choice": 1, "tie": True}, {"over": SECOND, "tie": True}),
        ({"over": SECOND}, {"over": SECOND}),
        ({"over": "another-turn", "tie": False}, {"over": "another-turn", "tie": False}),
        ({"won": True}, {"won": True}),
        (None, None),
        (5, 5),
    ],
)
def test_a_pick_is_over_another_choice_by_its_number_or_over_any_turn_by_its_id(value: Any, becomes: Any) -> None:
    assert picked(value, THIRD, IDS) == becomes


@pytest.mark.parametrize(
    ("turn_id", "value", "said", "param"),
    [
        (
            THIRD,
            {"over_choice": 3},
            "value.over_choice is 3, but this reply has 3 choices: 0 to 2",
            "value.over_choice",
        ),
        (THIRD, {"over_choice": None}, "value.over_choice must be a whole number", "value.over_choice"),
        ("a-turn", {"over_choice": 0}, "turn_id must be one that this service sealed", "value.over_choice"),
        (None, {"over_choice": 0}, "turn_id must be one that this service sealed", "value.over_choice"),
        (THIRD, {"over_choice": 0, "over": FIRST}, "say over or over_choice", "value"),
        (THIRD, {"over_choice": 2}, "picked over itself", "value"),
        (THIRD, {"over": THIRD}, "picked over itself", "value"),
    ],
)
def test_a_pick_over_what_there_is_not_is_a_400_that_says_why(
    turn_id: str | None, value: Any, said: str, param: str
) -> None:
    with pytest.raises(ApiError, match=said) as refused:
        picked(value, turn_id, IDS)
    assert (refused.value.status, refused.value.param) == (400, param)
