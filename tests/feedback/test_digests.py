from hypothesis import given
from hypothesis import strategies as st

from feedback.digests import payload_of, turn_digest

IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=4)
"""What an id may be made of: the wire contract rejects control characters and halves of characters."""


@given(st.tuples(IDS, IDS), st.tuples(IDS, IDS))
def test_two_turns_have_one_name_only_if_they_are_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (turn_digest(*one) == turn_digest(*other)) == (one == other)


@given(st.tuples(IDS, IDS, IDS), st.tuples(IDS, IDS, IDS))
def test_two_payloads_have_one_name_only_if_they_say_the_same_of_one_turn(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (payload_of(*one) == payload_of(*other)) == (one == other)


@given(IDS, IDS, IDS)
def test_a_name_is_sixteen_bytes_and_a_turn_is_not_its_payload(tenant: str, turn_id: str, content_hash: str) -> None:
    assert len(turn_digest(tenant, turn_id)) == len(payload_of(tenant, turn_id, content_hash)) == 16
    assert turn_digest(tenant, turn_id) != payload_of(tenant, turn_id, content_hash)


def test_the_parts_of_a_name_do_not_run_into_each_other() -> None:
    assert len({turn_digest("a", "bc"), turn_digest("ab", "c"), turn_digest("abc", "")}) == 3
    assert len({payload_of("a", "b", "cd"), payload_of("a", "bc", "d"), payload_of("ab", "c", "d")}) == 3
