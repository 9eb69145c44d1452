"""Values of blind comparisons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploy.rules.comparing import people_asked
from tests.deploy.pairs import pair


def test_a_pair_is_named_by_who_is_compared_on_which_turn_and_by_nothing_that_was_said() -> None:
    one = pair(1)
    assert replace(one, candidate_reply="x", people=0, locale=None, sampled_at_us=0).id == one.id
    changed = {"incumbent": "i", "candidate": "d", "tenant": "x", "conversation_id": "x", "turn_id": "x"}
    assert len({replace(one, **{name: value}).id for name, value in changed.items()} | {one.id}) == 6


def test_people_are_asked_with_the_probability_that_is_stored() -> None:
    draws = np.random.default_rng(1).random((20_000, 2))
    asked = np.array([people_asked(0.2, 0.25, (float(a), float(b))) for a, b in draws])
    assert (asked > 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (asked == 2).sum() / (asked > 0).sum() == pytest.approx(0.25, abs=0.03)
