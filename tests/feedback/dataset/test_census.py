from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.dataset import census
from feedback.dataset.census import Census
from feedback.digests import digest_of
from feedback.records import Turn
from tests.feedback.builders import MemoryFacts, content_hash, turn

Payload = tuple[str, str, str, str]


def taken(*turns: Turn) -> Census:
    return census.take(MemoryFacts(turns).turns())


def counting(*turns: Turn) -> set[Payload]:
    """Which payloads count, as (tenant, conversation id, turn id, content hash)."""
    counted = taken(*turns)
    wanted = counted.payloads(counted.rows_of({t.key for t in turns}))
    return {(*t.key, name) for t, name in MemoryFacts(turns).turns(only=wanted)}


TURNS = st.builds(
    lambda number, event, tenant, reply, user: turn(
        f"t{number}", event_id=f"e{event}", tenant=tenant, reply=reply, user_id=user
    ),
    st.integers(0, 3), st.integers(0, 3), st.sampled_from(["a", "b"]), st.sampled_from("xyz"), st.sampled_from(["u", "v", None]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(TURNS, max_size=12), st.randoms(use_true_random=False))
def test_each_turn_counts_once_whatever_the_order_and_everything_is_accounted_for(
    turns: list[Turn], order: object
) -> None:
    counted = taken(*turns)
    events = defaultdict(set)
    for event in turns:
        events[event.tenant, event.event_id].add((*event.key, content_hash(event)))
    assert counted.duplicates == len(turns) - len(events)
    found = counting(*turns)
    assert len(counted) == len(found) == len({payload[:-1] for payload in found})
    assert found <= set().union(*events.values())
    # an event whose payloads all lost to others is the only way for a turn id not to count
    for payloads in events.values():
        if len(payloads) == 1:
            ((*turn_key, _),) = payloads
            assert tuple(turn_key) in {payload[:-1] for payload in found}
    order.shuffle(turns)  # type: ignore[attr-defined]
    assert counting(*turns, *turns[:3]) == found
    assert taken(*turns).person.tolist() == counted.person.tolist()


def test_of_two_payloads_under_one_event_id_one_counts_in_either_order() -> None:
    one, other = turn("t1", reply="one"), turn("t1", reply="other")
    assert counting(one, other) == counting(other, one, one)
    assert (taken(one, other, one).conflicts, taken(one, other, one).duplicates) == (1, 2)


def test_of_two_events_under_one_turn_id_one_counts_in_either_order() -> None:
    one, other = turn("t1", event_id="e1", reply="one"), turn("t1", event_id="e2", reply="other")
    assert counting(one, other) == counting(other, one)
    assert (taken(one, other).conflicts, taken(one, other).duplicates) == (1, 0)


def test_payloads_that_differ_only_in_the_hashed_user_belong_to_nobody() -> None:
    one, other, nobody = turn("t1", user_id="a"), turn("t1", user_id="b"), turn("t1", user_id=None)
    assert taken(one, other).person == taken(other, one, one).person == taken(nobody).person
    assert taken(one).person != taken(nobody).person
    assert taken(one, other).conflicts == 0


def test_the_same_ids_in_two_tenants_are_two_turns() -> None:
    assert len(taken(turn("t1"), turn("t1", tenant="other"))) == 2
    assert digest_of("a", "b") != digest_of("b", "a")


def test_a_turn_that_there_is_not_is_unknown() -> None:
    counted = taken(turn("t1"), turn("t2"))
    assert counted.known({("default", "c1", "t1"), ("default", "c1", "t3"), ("other", "c1", "t2")}) == {
        ("default", "c1", "t1")
    }
    assert taken().known({("default", "c1", "t1")}) == set()
    assert (counted.rows_of([("default", "c1", "t3")]) == [-1]).all()


def test_turns_that_took_anothers_place_are_found_with_those_others() -> None:
    turns = [
        turn("t1"),
        turn("t2", replaces="t1"),
        turn("t3", replaces="nowhere"),
        turn("t4"),
        turn("t5", replaces="t5"),
    ]
    counted = taken(*turns)
    expected = counted.rows_of(("default", "c1", name) for name in ("t1", "t2", "t3"))
    assert sorted(counted.replaced().tolist()) == sorted(expected.tolist())


def test_the_other_turns_of_a_conversation_are_found() -> None:
    counted = taken(turn("t1", conversation_id="a"), turn("t2", conversation_id="b"), turn("t3", conversation_id="a"))
    expected = counted.rows_of(("default", "a", name) for name in ("t1", "t3"))
    assert sorted(counted.beside(expected[:1]).tolist()) == sorted(expected.tolist())
    assert counted.beside(expected[:0]).tolist() == []
