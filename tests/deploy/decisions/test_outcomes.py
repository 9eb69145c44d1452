"""Outcomes: by assignment, each user once, frozen when the window closes; hammering, forging and coming late change nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from deploy.decisions.outcomes import outcomes, tell
from deploy.rules.assignment import Arm, Enrolment
from feedback.records import Rating, Turn
from tests.deploy.decisions.people import TENANT, thumbs, turn_of

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_800_000_000_000_000
LATER = START + 30 * DAY


def enrolled(user: str, at_us: int = START, number: int = 0, arm: Arm = "candidate") -> Enrolment:
    return Enrolment("r", TENANT, user, number, arm, 0.5, 0.5, at_us)


def y(
    enrolments: Sequence[Enrolment], events: Sequence[tuple[int, Turn | Rating]], age: int = 3 * DAY, now: int = LATER
) -> dict[str, list[int]]:
    found = outcomes(tell(enrolments, events), age, HOUR, now)
    return {name: values.tolist() for name, values in found.y.items()} | {"late": [int(found.late.sum())]}


def at_once(event: Turn | Rating) -> tuple[int, Turn | Rating]:
    return event.occurred_at_us, event


def test_a_unit_has_errors_dislikes_and_a_response_or_has_not() -> None:
    failed, good, bad = (turn_of(user, START + 1) for user in ("a", "b", "c"))
    events = [
        at_once(turn_of("a", START + 1, outcome="error")),
        at_once(good),
        at_once(bad),
        at_once(thumbs(good, True, START + 2)),
        at_once(thumbs(bad, False, START + 2)),
    ]
    assert failed.user_id == "a"
    assert y([enrolled(user) for user in "abcd"], events) == {
        "errors": [1, 0, 0, 0],
        "dislikes": [0, 0, 1, 0],
        "responded": [0, 1, 1, 0],
        "silent": [1, 0, 0, 1],
        "late": [0],
    }


def test_a_candidate_that_could_not_be_loaded_is_an_error_of_its_arm() -> None:
    instead = turn_of("a", START + 1, rollout={"id": "r", "arm": "candidate", "share": 0.5, "instead": True})
    assert y([enrolled("a")], [at_once(instead)])["errors"] == [1]


def test_who_hammers_ratings_counts_once_and_the_last_word_stands() -> None:
    turn = turn_of("a", START + 1)
    hammered = [at_once(thumbs(turn, False, START + 2 + n, f"r{n}")) for n in range(50)]
    assert y([enrolled("a"), enrolled("b")], [at_once(turn), *hammered])["dislikes"] == [1, 0]
    changed = [*hammered, at_once(thumbs(turn, True, START + 100, "last"))]
    assert y([enrolled("a"), enrolled("b")], [at_once(turn), *changed])["dislikes"] == [0, 0]
    taken_back = [*hammered, at_once(thumbs(turn, None, START + 100, "last"))]
    found = y([enrolled("a"), enrolled("b")], [at_once(turn), *taken_back])
    assert (found["dislikes"], found["responded"]) == ([0, 0], [0, 0])


def test_order_and_repetition_change_nothing() -> None:
    turns = [turn_of(user, START + n, outcome="error" if n % 3 else "ok") for n, user in enumerate("abcdef")]
    ratings = [thumbs(turn, n % 2 == 0, START + 10 + n) for n, turn in enumerate(turns)]
    events = [at_once(one) for one in ratings]
    mixed = events + events[:3]
    random.Random(4).shuffle(mixed)
    enrolments = [enrolled(user) for user in "abcdef"]
    told = [at_once(turn) for turn in turns]
    assert y(enrolments, [*reversed(told), *told[:2], *mixed]) == y(enrolments, told + events)


@pytest.mark.parametrize(
    ("at", "received", "disliked", "late"),
    [
        (3 * DAY - 1, 3 * DAY + HOUR, 1, 0),
        (3 * DAY - 1, 3 * DAY + HOUR + 1, 0, 1),
        (3 * DAY, 3 * DAY, 0, 0),
        (HOUR, 20 * DAY, 0, 1),
    ],
)
def test_what_happens_within_the_window_and_arrives_in_grace_counts(
    at: int, received: int, disliked: int, late: int
) -> None:
    turn = turn_of("a", START)
    rating = thumbs(turn, False, START + at)
    found = y([enrolled("a")], [at_once(turn), (START + received, rating)])
    assert (found["dislikes"], found["late"]) == ([disliked], [late])


def test_a_window_that_is_open_says_nothing_yet() -> None:
    turn = turn_of("a", START)
    events = [at_once(turn), at_once(thumbs(turn, False, START + 1))]
    assert y([enrolled("a")], events, now=START + 3 * DAY + HOUR - 1)["dislikes"] == []
    assert y([enrolled("a")], events, now=START + 3 * DAY + HOUR)["dislikes"] == [1]
    assert y([enrolled("a")], events, age=HOUR, now=START + 2 * HOUR)["dislikes"] == [1]


def test_an_event_is_of_the_enrolment_that_was_the_users_last_one_then() -> None:
    again = START + 4 * DAY
    enrolments = [enrolled("a", arm="incumbent"), enrolled("b"), enrolled("a", again, 1)]
    late_turn = turn_of("a", again + 5)
    found = y(
        enrolments, [at_once(turn_of("a", START + 1)), at_once(late_turn), at_once(thumbs(late_turn, False, again + 9))]
    )
    assert found["dislikes"] == [0, 0, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "other"},
        {"source": "expert"},
        {"source": "system"},
        {"kind": "comment"},
        {"turn_id": "forged"},
        {"turn_id": None},
    ],
)
def test_what_is_no_users_rating_of_a_reply_that_was_served_counts_for_nothing(changes: dict[str, object]) -> None:
    turn = turn_of("a", START + 1)
    assert y([enrolled("a")], [at_once(turn), at_once(thumbs(turn, False, START + 2, **changes))])["responded"] == [0]


def test_turns_that_this_gateway_did_not_serve_and_users_who_were_never_enrolled_count_for_nothing() -> None:
    told = turn_of("a", START + 1, origin="ingest", outcome="error")
    stranger = turn_of("x", START + 1, outcome="error")
    before = turn_of("b", START - 1, outcome="error")
    found = y([enrolled("a"), enrolled("b")], [at_once(told), at_once(stranger), at_once(before)])
    assert found["errors"] == [0, 0]


def test_few_stars_are_a_dislike() -> None:
    turn = turn_of("a", START + 1)
    for stars, disliked in ((1, 1), (2, 1), (3, 0), (5, 0)):
        rating = thumbs(turn, stars, START + 2, kind="stars")
        assert y([enrolled("a")], [at_once(turn), at_once(rating)])["dislikes"] == [disliked]


def test_a_users_groups_are_those_of_the_first_reply() -> None:
    first = turn_of("a", START + 1, locale="es", tags={"plan": "free"})
    second = turn_of("a", START + 2, locale="de")
    told = tell([enrolled("a")], [at_once(second), at_once(first)])
    assert told.slices == {0: {"locale:es", "plan:free"}}
