from collections import Counter

import pytest

from feedback.splits import BUCKETS, bucket, split_of


def test_a_bucket_never_changes() -> None:
    # Written down once: a change here would move people between splits.
    assert [bucket(unit, "default") for unit in ("u1", "u2", "u3")] == [83, 41, 73]


def test_tenants_do_not_share_buckets() -> None:
    assert any(bucket(f"u{i}", "a") != bucket(f"u{i}", "b") for i in range(10))


@pytest.mark.parametrize(
    ("number", "split"), [(0, "gate"), (19, "gate"), (20, "calibrate"), (29, "calibrate"), (30, "train"), (99, "train")]
)
def test_the_borders_between_splits(number: int, split: str) -> None:
    assert split_of(number) == split


def test_a_fifth_gates_and_a_tenth_calibrates() -> None:
    counts = Counter(split_of(bucket(f"user {i}", "default")) for i in range(5_000))
    assert {bucket(f"user {i}", "default") for i in range(5_000)} == set(range(BUCKETS))
    assert counts["gate"] / 5_000 == pytest.approx(0.2, abs=0.02)
    assert counts["calibrate"] / 5_000 == pytest.approx(0.1, abs=0.02)
