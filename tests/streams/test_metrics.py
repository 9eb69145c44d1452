"""The streams' metrics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from streams.metrics import observe_all

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
