import base64
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deploy.gateway.turn_ids import MAX_CHOICES, MAX_NAMES_BYTES, PREFIX, PREFIXES, TurnId, TurnIds
from feedback.intake.contract import MAX_ID_CHARACTERS

IDS = TurnIds(b"k" * 32)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
turns = st.builds(
    TurnId,
    names,
    names,
    st.sampled_from(["candidate", "incumbent"]),
    st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
    st.just(0),
    st.integers(1, MAX_CHOICES),
).filter(lambda turn: len(turn.tenant.encode()) + len(turn.conversation_id.encode()) <= MAX_NAMES_BYTES)
EARLIER = {
    "tt1-BU2XWw8bbKw9F1booeEGWAABAgMEBQYHCAEUd8lFAp8WyQRhY21lYy0x": TurnId(
        "acme", "c-1", "candidate", "1477c945029f16c9"
    ),
    "tt1-pp2REekWpa_3f5IMg5sQbwABAgMEBQYHCAAAAAAAAAAAAAdncsO2w59lw7xidW5n": TurnId("größe", "übung", "incumbent", None),
}
"""Ids that version 0.1.0 sealed."""


def raw(sealed: str) -> bytes:
    code = sealed.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))


@settings(max_examples=100)
@given(turns)
def test_what_was_sealed_comes_back_from_an_id_that_fits_a_url_and_the_contract(turn: TurnId) -> None:
    sealed = IDS.seal(turn)
    assert IDS.open(sealed) == turn
    assert set(sealed) <= set(string.ascii_letters + string.digits + "-_")
    assert len(sealed) < MAX_ID_CHARACTERS


@settings(max_examples=100)
@given(turns, st.data())
def test_no_change_of_a_single_character_is_accepted(turn: TurnId, data: st.DataObject) -> None:
    sealed = data.draw(st.sampled_from([IDS.seal(turn), *EARLIER]))
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(
        st.sampled_from(string.ascii_letters + string.digits + "-_=+/").filter(lambda c: c != sealed[place])
    )
    assert IDS.open(sealed[:place] + other + sealed[place + 1 :]) is None


@pytest.mark.parametrize("prefix", PREFIXES)
@settings(max_examples=100)
@given(text=st.data())
def test_what_was_never_sealed_is_none(text: st.DataObject, prefix: str) -> None:
    bytes_of_one = st.binary(max_size=200).map(lambda raw: prefix + base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
    asked = text.draw(st.text(max_size=400) | st.text(max_size=400).map(lambda rest: prefix + rest) | bytes_of_one)
    assert IDS.open(asked) is None
    assert IDS.choice(asked, 0) is None


def test_another_deployments_id_is_none() -> None:
    assert IDS.open(TurnIds(b"other").seal(TurnId("t", "c", "incumbent", None))) is None


def test_two_turns_of_one_conversation_have_different_ids() -> None:
    turn = TurnId("t", "c", "incumbent", None)
    assert IDS.seal(turn) != IDS.seal(turn)


def test_names_that_would_make_the_id_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="150 bytes"):
        IDS.seal(TurnId("t", "c" * MAX_NAMES_BYTES, "incumbent", None))


@pytest.mark.parametrize(("choice", "choices"), [(0, 0), (0, MAX_CHOICES + 1), (2, 2), (-1, 2)])
def test_a_choice_that_there_can_not_be_is_not_sealed(choice: int, choices: int) -> None:
    with pytest.raises(ValueError, match="of at most 128 choices"):
        IDS.seal(TurnId("t", "c", "incumbent", None, choice, choices))


def test_an_id_tells_nothing_readable() -> None:
    turn = TurnId("the-tenant", "the-conversation", "candidate", "c0ffee" * 2 + "abcd")
    sealed = IDS.seal(turn)
    for text in (sealed.encode(), raw(sealed), raw(sealed).hex().encode()):
        for told in (b"the-tenant", b"the-conversation", b"candidate", b"c0ffee", bytes.fromhex("c0ffee")):
            assert told not in text


def test_neither_length_nor_any_fixed_byte_tells_the_arm_the_adapter_or_the_choice() -> None:
    nonces = iter(range(1_000))
    ids = TurnIds(b"k" * 32, nonce=lambda length: next(nonces).to_bytes(length, "big"))
    turn = TurnId("t", "c", "incumbent", None)
    others = [
        replace(turn, arm="candidate"),
        replace(turn, adapter="ab" * 8),
        replace(turn, adapter="0" * 16),
        replace(turn, choice=1, choices=2),
    ]
    sealed = [[raw(ids.seal(kind)) for _ in range(40)] for kind in (turn, *others)]
    assert len({len(one) for kind in sealed for one in kind}) == 1
    for kind in sealed:
        assert all(len({one[place] for one in kind}) > 10 for place in range(len(kind[0])))


@settings(max_examples=100)
@given(turns, st.data())
def test_each_choice_of_a_reply_has_an_id_of_its_own_the_same_each_time_that_opens_to_its_own_turn(
    turn: TurnId, data: st.DataObject
) -> None:
    first = IDS.seal(turn)
    choices = range(turn.choices)
    names = [IDS.choice(first, choice) for choice in choices]
    assert names[0] == first
    assert len(set(names)) == turn.choices
    assert [IDS.open(name or "") for name in names] == [replace(turn, choice=choice) for choice in choices]
    any_other = data.draw(st.sampled_from(names))
    assert any_other is not None
    assert [TurnIds(b"k" * 32).choice(any_other, choice) for choice in choices] == names
    assert [IDS.choice(first, choice) for choice in (-1, turn.choices, 10**9)] == [None] * 3


@pytest.mark.parametrize("sealed", EARLIER)
def test_an_id_of_the_version_before_is_still_taken_as_the_only_choice_of_its_reply(sealed: str) -> None:
    assert IDS.open(sealed) == EARLIER[sealed]
    assert IDS.choice(sealed, 0) == sealed
    assert IDS.choice(sealed, 1) is None
    assert TurnIds(b"other").open(sealed) is None
