"""People label blind comparisons: nobody twice, nobody in somebody else's place; on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from sqlalchemy import update

from deploy.control import schema
from deploy.control.labelling import UnknownPair
from deploy.control.store import Control
from deploy.errors import Failed, Refused
from deploy.rules.comparing import JUDGE, OPEN, Comparison, ComparisonLabel, people_asked
from deploy.rules.labelling import CLAIM_US, Agreement, Answer, Question, preference
from deploy.rules.rollout import CandidateState
from feedback.statistics.intervals import wilson
from tests.deploy.pairs import CANDIDATE, PATIENCE_US, add_candidate, pair


@pytest.fixture
def control(any_control: Control) -> Control:
    """A store that knows the candidate of the pairs and nothing else."""
    add_candidate(any_control)
    return any_control


def asked(control: Control, who: str, now_us: int = 1, tenant: str | None = None, draw: float = 0.0) -> Question | None:
    return control.labelling.next(who, tenant, now_us, draw)


def says(control: Control, who: str, one: Comparison, answer: Answer = "first", now_us: int = 2) -> ComparisonLabel:
    return control.labelling.answer(one.id, who, None, answer, now_us)


def given(control: Control, one: Comparison) -> list[tuple[str, float | None]]:
    """Who said what of a pair."""
    found = {labelled.id: labelled.labels for labelled in control.comparisons.of(CANDIDATE, None)}
    return [(label.labeller, label.preference) for label in found[one.id]]


def test_the_oldest_pair_that_wants_a_person_is_asked_about_until_it_is_answered(control: Control) -> None:
    judged, one, other = pair(1, people=0), pair(2), pair(3)
    control.comparisons.add([judged, one, other])
    first = asked(control, "anna")
    assert first is not None
    assert (first.id, first.prompt, {first.first, first.second}) == (
        one.id,
        one.prompt,
        {one.candidate_reply, one.incumbent_reply},
    )
    assert asked(control, "anna", now_us=CLAIM_US // 2, draw=0.99) == first
    assert says(control, "anna", one, "second").preference == preference("second", "candidate")
    second = asked(control, "anna")
    assert second is not None
    assert second.id == other.id
    says(control, "anna", other, "skip")
    assert asked(control, "anna") is None
    assert given(control, one) == [("anna", 0.0)]
    assert given(control, other) == [("anna", None)]


def test_who_labels_at_once_is_asked_about_other_pairs(control: Control) -> None:
    control.comparisons.add([pair(1, people=2), pair(2)])
    found = [asked(control, who) for who in ("anna", "ben", "cleo", "dora")]
    assert [one.id if one else None for one in found] == [pair(1).id, pair(1).id, pair(2).id, None]


def test_a_place_that_is_not_used_within_ten_minutes_is_somebody_elses(control: Control) -> None:
    control.comparisons.add([pair(1)])
    asked(control, "anna", now_us=1)
    assert asked(control, "ben", now_us=CLAIM_US) is None
    late = CLAIM_US + 1
    assert asked(control, "ben", now_us=late) is not None
    with pytest.raises(Refused, match="after ten minutes"):
        says(control, "anna", pair(1), now_us=late + 1)
    assert given(control, pair(1)) == []
    says(control, "ben", pair(1), now_us=late + 2)
    with pytest.raises(Refused, match="after ten minutes"):
        says(control, "anna", pair(1), now_us=late + 3)
    assert [who for who, _ in given(control, pair(1))] == ["ben"]


def test_who_stops_gives_the_place_back(control: Control) -> None:
    control.comparisons.add([pair(1)])
    before = asked(control, "anna", draw=0.9)
    control.labelling.leave("ben")
    assert asked(control, "ben") is None
    control.labelling.leave("anna")
    assert asked(control, "ben") is not None
    control.labelling.leave("ben")
    assert asked(control, "anna", draw=0.1) == before


def test_a_late_answer_counts_where_nobody_took_the_place(control: Control) -> None:
    control.comparisons.add([pair(1)])
    asked(control, "anna", now_us=1)
    says(control, "anna", pair(1), now_us=10 * CLAIM_US)
    assert given(control, pair(1)) == [("anna", 1.0)]


def test_who_is_asked_again_after_a_break_sees_the_replies_as_before(control: Control) -> None:
    control.comparisons.add([pair(1)])
    before = asked(control, "anna", now_us=1, draw=0.9)
    assert asked(control, "anna", now_us=5 * CLAIM_US, draw=0.1) == before
    says(control, "anna", pair(1), "first", now_us=5 * CLAIM_US)
    assert given(control, pair(1)) == [("anna", 0.0)]
    assert control.comparisons.of(CANDIDATE, None)[0].labels[0].how == {"first": "incumbent"}


def test_a_place_that_a_clock_ahead_of_time_gave_is_not_kept_for_ever(control: Control) -> None:
    control.comparisons.add([pair(1)])
    asked(control, "anna", now_us=1_000 * CLAIM_US)
    assert asked(control, "ben", now_us=1) is not None


def test_what_was_said_stays_and_the_same_again_is_fine(control: Control) -> None:
    control.comparisons.add([pair(1)])
    asked(control, "anna")
    first = says(control, "anna", pair(1), "tie", now_us=2)
    assert says(control, "anna", pair(1), "tie", now_us=9) == first
    for other in ("first", "second", "skip"):
        with pytest.raises(Refused, match="already"):
            says(control, "anna", pair(1), other)  # type: ignore[arg-type]
    assert given(control, pair(1)) == [("anna", 0.5)]


def test_who_was_not_asked_does_not_answer(control: Control) -> None:
    control.comparisons.add([pair(1)])
    with pytest.raises(Refused, match="ben was not asked"):
        says(control, "ben", pair(1))
    with pytest.raises(Failed, match="needs a name"):
        asked(control, JUDGE)
    with pytest.raises(Failed, match="needs a name"):
        says(control, JUDGE, pair(1))


def test_a_pair_that_is_not_there_is_unknown(control: Control) -> None:
    for name in ("0" * 32, "", "x", "\0", "\ud800", "é" * 32):
        with pytest.raises(UnknownPair, match="no such pair"):
            control.labelling.answer(name, "anna", None, "first", 1)


def test_a_tenants_people_see_and_answer_its_own_pairs_only(control: Control) -> None:
    control.comparisons.add([pair(1), replace(pair(2), tenant="acme")])
    found = asked(control, "anna", tenant="acme")
    assert found is not None
    assert found.id == replace(pair(2), tenant="acme").id
    asked(control, "ben")
    with pytest.raises(UnknownPair):
        control.labelling.answer(pair(1).id, "ben", "acme", "first", 2)
    assert control.labelling.progress("anna", "acme", 1).wanted == 1
    assert asked(control, "anna", tenant="nobody") is None


def test_nobody_is_asked_about_a_candidate_whose_fate_is_decided(control: Control) -> None:
    control.comparisons.add([pair(1)])
    asked(control, "anna")
    for state in get_args(CandidateState):
        with control.change() as tx:
            tx.move(CANDIDATE, state, None)
        assert (asked(control, "anna", now_us=2) is not None) == (state in OPEN), state
        if state not in OPEN:
            with pytest.raises(Refused, match=f"not stored: its candidate is {state}"):
                says(control, "anna", pair(1))


def test_nobody_is_asked_about_a_comparison_with_what_serves_no_more(control: Control) -> None:
    control.comparisons.add([pair(1), replace(pair(2), incumbent="d" * 64)])
    with control.database.write() as connection:
        connection.execute(update(schema.serving).values(incumbents=[None, "d" * 64]))
    found = asked(control, "anna")
    assert found is not None
    assert found.id == replace(pair(2), incumbent="d" * 64).id
    assert control.labelling.progress("anna", None, 1).wanted == 1


def test_progress_counts_people_and_tells_their_agreement_and_the_judges(control: Control) -> None:
    control.comparisons.add([pair(n, people=2) for n in (1, 2, 3)] + [pair(4, people=0)])
    for who, answers in {"anna": ("first", "second", "tie"), "ben": ("first", "first", "skip")}.items():
        for n, answer in enumerate(answers, 1):
            shown = asked(control, who)
            assert shown is not None
            says(control, who, pair(n), _as_shown(shown, pair(n), answer))  # type: ignore[arg-type]
    judge = [ComparisonLabel(pair(n).id, JUDGE, said, 3, {}) for n, said in ((1, 0.9), (2, None), (3, 0.1), (4, 0.5))]
    control.comparisons.label(judge)
    anna = control.labelling.progress("anna", None, 1)
    assert (anna.labelled, anna.given, anna.wanted, anna.left) == (3, 6, 6, 0)
    assert anna.with_people == Agreement(pairs=2, agreed=1)
    assert anna.with_judge == Agreement(pairs=2, agreed=1)
    assert control.labelling.progress("cleo", None, 1).labelled == 0


def _as_shown(shown: Question, one: Comparison, answer: Answer) -> Answer:
    """`first` means the candidate's reply: the answer that says so where it was shown second."""
    if answer in ("tie", "skip") or shown.first == one.candidate_reply:
        return answer
    return "second" if answer == "first" else "first"


def test_whose_time_is_over_is_a_tie_and_nobody_is_asked_about_it_any_more(control: Control) -> None:
    control.comparisons.add([pair(1), pair(2)])
    assert asked(control, "anna") is not None
    over_us = 1 + PATIENCE_US
    with pytest.raises(Refused, match="time for it is over"):
        says(control, "anna", pair(1), now_us=over_us + 1)
    later = asked(control, "anna", over_us + 1)
    assert later is not None
    assert later.id == pair(2).id
    assert control.labelling.progress("anna", None, over_us + 1).wanted == 1
    assert asked(control, "anna", over_us + 2) is None


def test_progress_of_nothing_is_nothing(control: Control) -> None:
    progress = control.labelling.progress("anna", None, 1)
    assert (progress.labelled, progress.given, progress.wanted, progress.left) == (0, 0, 0, 0)


def sampled(count: int, share: float, second: float) -> list[Comparison]:
    """So many pairs, people drawn for them as the service draws."""
    draws = random.Random(7)
    people = [people_asked(share, second, (draws.random(), draws.random())) for _ in range(count)]
    return [replace(pair(n, people=asked), probability=share) for n, asked in enumerate(people)]


def test_three_people_at_once_label_what_was_sampled_nobody_twice(control: Control) -> None:
    """300 pairs of a Bernoulli sample; a label each second, all three drawing for places at once."""
    pairs = sampled(300, share=0.6, second=0.5)
    control.comparisons.add(pairs)
    barrier, seen = threading.Barrier(3), {who: list[str]() for who in ("anna", "ben", "cleo")}

    def label(who: str) -> None:
        draws = random.Random(who)
        barrier.wait(timeout=60)
        for now_us in itertools.count(1):
            shown = asked(control, who, now_us, draw=draws.random())
            if shown is None:
                return
            seen[who].append(shown.id)
            chosen = "first" if shown.first.startswith("the candidate") else "second"
            answer: Answer = chosen if draws.random() < 0.8 else "tie"  # type: ignore[assignment]
            control.labelling.answer(shown.id, who, None, answer, now_us)

    threads = [threading.Thread(target=label, args=(who,)) for who in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    stored = control.comparisons.of(CANDIDATE, None)
    assert {one.id: len(one.labels) for one in stored} == {one.id: one.people for one in pairs}
    assert all(len(ids) == len(set(ids)) for ids in seen.values())
    assert all(seen.values())
    asked_of = sum(one.people > 0 for one in pairs)
    low, high = wilson(asked_of / len(pairs), len(pairs), 0.995)
    assert low < 0.6 < high
    assert sum(len(one.labels) > 0 for one in stored) == asked_of
    twice = sum(one.people == 2 for one in pairs)
    agreements = [control.labelling.progress(who, None, 1).with_people for who in seen]
    assert sum(one.pairs for one in agreements) == 2 * twice
    assert all(0.4 < one.agreed / one.pairs < 0.95 for one in agreements)
    orders = Counter(label.how["first"] for one in stored for label in one.labels)
    assert abs(orders["candidate"] - orders["incumbent"]) < 30
