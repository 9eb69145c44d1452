"""What property tests draw: strata, and units in order of assignment."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from feedback.statistics.tallies import Ints, Strata, add, empty
from tests.feedback.statistics.literal import Unit

shares = st.floats(0.02, 0.98)


@st.composite
def strata(draw: st.DrawFn, at_most: int = 4) -> Strata:
    """Some strata, two of which may belong to one stage."""
    many = draw(st.integers(1, at_most))
    steps = draw(st.lists(st.integers(0, 1), min_size=many - 1, max_size=many - 1))
    drawn = [draw(st.lists(shares, min_size=many, max_size=many)) for _ in range(2)]
    return Strata(np.array(drawn[0]), np.array(drawn[1]), np.cumsum([0, *steps]))


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Strata, list[Unit]]:
    """Strata, and units of them in order."""
    drawn = draw(strata())
    units = draw(st.lists(st.tuples(st.integers(0, len(drawn) - 1), st.integers(0, 1), st.integers(0, 1)), max_size=40))
    return drawn, sorted(units, key=lambda unit: unit[0])


def tally(drawn: Strata, units: list[Unit]) -> Ints:
    """Their counts."""
    columns = np.array(units, np.int64).reshape(-1, 3).T
    return add(empty(drawn), *columns)
