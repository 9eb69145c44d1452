"""A cache that is bounded by bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedback.privacy.remembered import ENTRY_BYTES, Remembered

ROOM = 10_000


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 3_000))))
def test_what_is_remembered_takes_no_more_than_its_room(entries: list[tuple[int, int]]) -> None:
    cache = Remembered[int, int](ROOM)
    for key, size in entries:
        cache.set(key, size, size)
        found = {key: value for key in range(51) if (value := Remembered.get(cache, key)) is not None}
        assert sum(found.values()) + ENTRY_BYTES * len(found) <= ROOM


def test_what_is_looked_up_stays_and_the_rest_goes() -> None:
    cache = Remembered[int, str](ROOM)
    for key in range(200):
        cache.set(key, "value", 100)
        assert cache.get(0) == "value"
    assert cache.get(1) is None
    assert cache.get(199) == "value"


def test_one_huge_value_pushes_nothing_out() -> None:
    cache = Remembered[str, str](ROOM)
    cache.set("small", "value", 10)
    cache.set("huge", "value", ROOM)
    assert (cache.get("small"), cache.get("huge")) == ("value", None)
