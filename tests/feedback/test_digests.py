from hypothesis import given
from hypothesis import strategies as st

from feedback.digests import digest_of, payload_of

IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=4)
"""What an id may be made of: the wire contract rejects control characters and halves of characters."""


@given(st.tuples(IDS, IDS, IDS), st.tuples(IDS, IDS, IDS))
def test_two_turns_have_one_name_only_if_they_are_one(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (digest_of(*one) == digest_of(*other)) == (one == other)


@given(st.tuples(IDS, IDS, IDS, IDS), st.tuples(IDS, IDS, IDS, IDS))
def test_two_payloads_have_one_name_only_if_they_say_the_same_of_one_turn(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    assert (payload_of(*one) == payload_of(*other)) == (one == other)


@given(IDS, IDS, IDS, IDS)
def test_a_name_is_sixteen_bytes_and_a_turn_is_not_its_payload(
    tenant: str, conversation_id: str, turn_id: str, content_hash: str
) -> None:
    turn, payload = (
        digest_of(tenant, conversation_id, turn_id),
        payload_of(tenant, conversation_id, turn_id, content_hash),
    )
    assert len(turn) == len(payload) == 16
    assert turn != payload


def test_the_parts_of_a_name_do_not_run_into_each_other() -> None:
    assert len({digest_of("a", "bc"), digest_of("ab", "c"), digest_of("abc", "")}) == 3
    assert len({payload_of("a", "b", "cd", "e"), payload_of("a", "bc", "d", "e"), payload_of("ab", "c", "d", "e")}) == 3
