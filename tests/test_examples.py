"""The sample log is what its generator makes, keeps the contract, and holds what its README says."""

import gzip
import importlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from feedback.content import untrainable
from feedback.dataset.compute import compute
from feedback.dataset.near_duplicates import prompt_key
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge
from feedback.records import Rating, Turn
from feedback.settings import WindowSettings
from tests.feedback.builders import MemoryFacts

EXAMPLES = Path(__file__).parent.parent / "examples"
LOG = EXAMPLES / "support.jsonl.gz"


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module("generate_support")
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def parsed() -> list[Turn | Rating | Rejected]:
    now_us = time.time_ns() // 1_000
    return [contract.parse(line, now_us) for line in gzip.decompress(LOG.read_bytes()).splitlines()]


@pytest.fixture(scope="module")
def turns(parsed: list[Turn | Rating | Rejected]) -> dict[str, Turn]:
    edge = Edge(b"a key of the tests")
    redacted = [edge.redacted(event) for event in parsed if isinstance(event, Turn)]
    return {turn.turn_id: turn for turn in redacted if isinstance(turn, Turn)}


@pytest.fixture(scope="module")
def ratings(parsed: list[Turn | Rating | Rejected]) -> list[Rating]:
    return [event for event in parsed if isinstance(event, Rating)]


def test_the_shipped_log_is_what_the_generator_makes(generator: ModuleType) -> None:
    made: bytes = generator.log_bytes()
    assert made == generator.log_bytes()
    assert made == gzip.decompress(LOG.read_bytes()), (
        "run: python examples/generate_support.py examples/support.jsonl.gz"
    )


def test_the_file_is_small_and_names_no_time_of_writing() -> None:
    content = LOG.read_bytes()
    assert len(content) < 1_000_000
    assert content[4:8] == b"\0\0\0\0"


def test_five_lines_are_no_events_each_for_its_own_reason(parsed: list[Turn | Rating | Rejected]) -> None:
    reasons = [event for event in parsed if isinstance(event, Rejected)]
    assert Counter((reason.code, reason.field) for reason in reasons) == {
        ("bad_json", ""): 1,
        ("unknown_schema", "schema"): 1,
        ("missing_field", "turn_id"): 1,
        ("missing_field", "policy"): 1,
        ("bad_value", "value"): 1,
    }


def test_there_are_enough_turns_of_enough_people_in_four_languages(turns: dict[str, Turn]) -> None:
    assert 2_800 <= len(turns) <= 3_200
    assert len({turn.user_id for turn in turns.values()}) > 400
    languages = Counter((turn.locale or "")[:2] for turn in turns.values())
    assert set(languages) == {"en", "de", "es", "zh"}
    assert min(languages.values()) > 400
    assert {turn.policy for turn in turns.values()} == {"support-base-2026-09", "support-base-2026-10"}
    assert {turn.outcome for turn in turns.values()} == {"ok", "error", "aborted"}


def test_ratings_are_of_every_kind_and_source(turns: dict[str, Turn], ratings: list[Rating]) -> None:
    kinds = Counter(rating.kind for rating in ratings)
    assert set(kinds) == {"thumbs", "stars", "pick", "edit", "comment", "signal", "score"}
    assert {rating.source for rating in ratings} == {"user", "expert", "system"}
    assert {rating.value for rating in ratings if rating.kind == "signal"} == contract.SIGNALS
    assert 0.3 < len({rating.turn_id for rating in ratings} & turns.keys()) / len(turns) < 0.4
    assert (
        120
        < sum(rating.kind == "pick" or (rating.source, rating.kind) == ("expert", "edit") for rating in ratings)
        < 220
    )
    assert any(rating.turn_id is None and rating.kind == "stars" for rating in ratings)
    assert any(rating.value is None for rating in ratings)
    assert all(rating.rubric for rating in ratings if rating.source == "expert" and rating.kind != "pick")


def test_there_is_one_duplicate_one_conflict_and_one_orphan(
    turns: dict[str, Turn], ratings: list[Rating], parsed: list[Turn | Rating | Rejected]
) -> None:
    ids = Counter(event.event_id for event in parsed if isinstance(event, Turn | Rating))
    twice = [[event for event in ratings if event.event_id == name] for name, count in ids.items() if count > 1]
    assert sorted(pair[0] == pair[1] for pair in twice) == [False, True]
    assert sum(rating.turn_id is not None and rating.turn_id not in turns for rating in ratings) == 1


def test_some_ratings_come_late_some_before_their_turn_and_all_within_three_weeks(
    turns: dict[str, Turn], ratings: list[Rating], parsed: list[Turn | Rating | Rejected]
) -> None:
    events = [event for event in parsed if isinstance(event, Turn | Rating)]
    times = [event.occurred_at_us for event in events]
    assert max(times) - min(times) < 22 * 86_400 * 1_000_000
    out_of_order = sum(later < earlier for earlier, later in itertools.pairwise(times))
    assert 0 < out_of_order < len(times) / 10
    place = {event.turn_id: number for number, event in enumerate(events) if isinstance(event, Turn)}
    assert any(isinstance(event, Rating) and place.get(event.turn_id or "", -1) > n for n, event in enumerate(events))


def test_replacements_and_picks_are_about_the_same_context(turns: dict[str, Turn], ratings: list[Rating]) -> None:
    plain = {name for name, turn in turns.items() if untrainable(turn) is None}
    replacing = [(turn.turn_id, turn.replaces) for turn in turns.values() if turn.replaces]
    picked = [(rating.turn_id, rating.value.over) for rating in ratings if rating.kind == "pick"]
    both = [(a, b) for a, b in replacing + picked if a in plain and b in plain]
    same = sum(prompt_key(turns[str(a)]) == prompt_key(turns[str(b)]) for a, b in both)
    assert len(both) > 60
    assert same == len(both)


def test_personal_data_is_in_the_log_and_does_not_get_past_the_edge(
    turns: dict[str, Turn], ratings: list[Rating]
) -> None:
    raw = gzip.decompress(LOG.read_bytes()).decode()
    assert raw.count("@example.com") > 20
    edge = Edge(b"a key of the tests")
    kept = str(list(turns.values())) + str([edge.redacted(rating) for rating in ratings])
    for trace in ("@example.com", "192.0.2.", "555 01", "customer-"):
        assert trace in raw
        assert trace not in kept
    for marker in ("[email]", "[phone]", "[ip]"):
        assert marker in kept
    assert "[id]" not in kept
    assert "[card]" not in kept


def test_nearly_all_turns_outlast_the_removal_of_near_duplicates(turns: dict[str, Turn]) -> None:
    content, _ = compute(MemoryFacts(turns.values()), max(t.occurred_at_us for t in turns.values()), WindowSettings())
    kept = content["turns"]
    assert len(kept) > 0.75 * len(turns)
    shares = Counter(row["split"] for row in kept)
    assert shares["train"] > 1_700
    assert shares["gate"] > 400


def test_displeased_customers_say_so_more_often_than_content_ones_praise(ratings: list[Rating]) -> None:
    thumbs = Counter(rating.value for rating in ratings if (rating.source, rating.kind) == ("user", "thumbs"))
    assert 0.35 < thumbs[True] / (thumbs[True] + thumbs[False]) < 0.65


def test_every_phrase_has_only_gaps_that_get_filled(generator: ModuleType) -> None:
    subject = generator.Subject.draw(generator.Dice("a test"))
    for name in generator.LANGUAGES:
        language = generator.Language(name)
        for topic in generator.TOPICS:
            for kind in ("asks", "details", "follow_ups", "replies"):
                for phrase in language.phrases(kind, topic):
                    assert "{" not in language.say(phrase, subject)
        with_number = {
            t for t in generator.TOPICS if all("{order}" in reply for reply in language.phrases("replies", t))
        }
        assert with_number == {*generator.TOPICS} - {"product", "hours"}
