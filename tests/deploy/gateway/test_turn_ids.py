import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.gateway.turn_ids import MAX_NAMES_BYTES, PREFIX, TurnId, TurnIds
from feedback.intake.contract import MAX_ID_CHARACTERS

IDS = TurnIds(b"k" * 32)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
turns = st.builds(
    TurnId,
    names,
    names,
    st.sampled_from(["candidate", "incumbent"]),
    st.none() | st.text("0123456789abcdef", min_size=16, max_size=16).filter(lambda text: text != "0" * 16),
).filter(lambda turn: len(turn.tenant.encode()) + len(turn.conversation_id.encode()) <= MAX_NAMES_BYTES)


@given(turns)
def test_what_was_sealed_comes_back_from_an_id_that_fits_a_url_and_the_contract(turn: TurnId) -> None:
    sealed = IDS.seal(turn)
    assert IDS.open(sealed) == turn
    assert set(sealed) <= set(string.ascii_letters + string.digits + "-_")
    assert len(sealed) <= MAX_ID_CHARACTERS


@given(turns, st.data())
def test_no_change_of_a_single_character_is_accepted(turn: TurnId, data: st.DataObject) -> None:
    sealed = IDS.seal(turn)
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(
        st.sampled_from(string.ascii_letters + string.digits + "-_=+/").filter(lambda c: c != sealed[place])
    )
    assert IDS.open(sealed[:place] + other + sealed[place + 1 :]) is None


@given(st.text(max_size=400) | st.binary(max_size=200).map(lambda raw: PREFIX + base64.urlsafe_b64encode(raw).decode()))
def test_what_was_never_sealed_is_none(text: str) -> None:
    assert IDS.open(text) is None


def test_another_deployments_id_is_none() -> None:
    assert IDS.open(TurnIds(b"other").seal(TurnId("t", "c", "incumbent", None))) is None


def test_two_turns_of_one_conversation_have_different_ids() -> None:
    turn = TurnId("t", "c", "incumbent", None)
    assert IDS.seal(turn) != IDS.seal(turn)


def test_names_that_would_make_the_id_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="150 bytes"):
        IDS.seal(TurnId("t", "c" * MAX_NAMES_BYTES, "incumbent", None))
