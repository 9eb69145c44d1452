"""The streams' metrics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from streams.metrics import REPLACED_SURROGATES, observe_all, observe_events
from tests.feedback.builders import rating, turn

BOUNDS = (1, 10, 60)


def samples(histogram: Histogram) -> list[tuple[str, dict[str, str], float]]:
    (family,) = histogram.collect()
    return [(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")]


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.integers(0, 100))))
def test_observing_many_at_once_is_observing_each(amounts: list[float]) -> None:
    each, at_once = (Histogram("seconds", "", buckets=BOUNDS, registry=CollectorRegistry()) for _ in range(2))
    for amount in amounts:
        each.observe(amount)
    observe_all(at_once, amounts)
    assert samples(at_once) == samples(each)


def test_events_in_which_halves_of_surrogate_pairs_were_replaced_are_counted() -> None:
    before = REPLACED_SURROGATES._value.get()
    replaced = turn("t1", extra={"replaced_surrogates": 2})
    observe_events([(replaced, 0), (turn("t2", extra={"shoe_size": 43}), 0), (turn("t3"), 0)], "turns.served")
    observe_events([(rating("r1", "t1", "thumbs", True), 0)], "ratings.given")
    assert REPLACED_SURROGATES._value.get() == before + 1
