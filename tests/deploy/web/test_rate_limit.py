"""Buckets of tokens: as many at once as in a minute, then evenly, and no more of them than fit."""

from __future__ import annotations

import pytest

from deploy.web import rate_limit
from deploy.web.rate_limit import RateLimit
from tests.fakes import ManualClock


def taken(limit: RateLimit, caller: str = "ann") -> int:
    """How many come through at once."""
    count = 0
    while limit.take(caller) == 0:
        count += 1
    return count


def test_a_minutes_worth_at_once_and_then_evenly() -> None:
    clock = ManualClock()
    limit = RateLimit(30, clock)
    assert taken(limit) == 30
    assert limit.take("ann") == pytest.approx(2)
    clock.set_forward(1.5)
    assert limit.take("ann") == pytest.approx(0.5), "who is refused does not wait the longer for it"
    clock.set_forward(0.5)
    assert taken(limit) == 1
    clock.set_forward(10)
    assert taken(limit) == 5
    clock.set_forward(3_600)
    assert taken(limit) == 30, "nothing is saved up beyond that"


def test_each_caller_has_a_bucket() -> None:
    limit = RateLimit(1, ManualClock())
    assert limit.take("user", "acme", "ann") == 0
    assert limit.take("user", "acme", "bob") == 0
    assert limit.take("key", "acme", "ann") == 0
    assert limit.take("user", "acme", "ann") > 0


def test_0_is_no_limit() -> None:
    limit = RateLimit(0, ManualClock())
    assert all(limit.take("ann") == 0 for _ in range(1_000))


def test_the_least_recently_used_are_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MOST", 3)
    limit = RateLimit(2, ManualClock())
    for caller in ("ann", "bob", "cid", "ann", "dan"):
        assert limit.take(caller) == 0
    assert limit.take("ann") > 0
    assert limit.take("cid") == 0
    assert limit.take("cid") > 0
    assert (taken(limit, "bob"), taken(limit, "dan")) == (2, 1), "bob was forgotten, and has a full one"


def test_a_caller_of_any_characters_is_one_and_is_not_kept_readably() -> None:
    limit = RateLimit(1, ManualClock())
    assert limit.take("user", "\ud800", "ann@shop.example") == 0
    assert "ann" not in str(vars(limit))
