"""Names in sentences: short enough to read, long enough to be typed again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploy.control.records import Candidate
from deploy.control.store import Control
from deploy.rules.names import percent, policy_name, short

DIGEST = "0123456789abcdef" * 4


def test_what_a_sentence_calls_a_candidate_is_what_commands_take(control: Control) -> None:
    with control.change() as tx:
        for digest in (DIGEST, DIGEST[:8] + "f" * 56):
            tx.add_candidate(Candidate(digest, "s", "sha256:0", "0", 1, 1, "held", "gate"))
        assert tx.candidate(policy_name(DIGEST)).digest == DIGEST
        assert tx.candidate(short(DIGEST)).digest == DIGEST


@given(st.integers(0, 100))
def test_a_share_in_whole_percent_is_said_as_it_was_configured(number: int) -> None:
    assert percent(number / 100) == f"{number}%"


@given(st.floats(1e-6, 1))
def test_a_share_is_said_to_six_digits(share: float) -> None:
    said = percent(share)
    assert abs(float(said.removesuffix("%")) / 100 - share) <= 5e-6 * share
