from __future__ import annotations

from deploy.web.tokens import token_bytes


def test_no_bytes_are_given_twice_and_each_has_its_size() -> None:
    taken = [token_bytes(size) for size in [16] * 1_000 + [5_000, 16, 1]]
    assert [len(each) for each in taken] == [16] * 1_000 + [5_000, 16, 1]
    assert len(set(taken)) == len(taken)
    assert len({each[:8] for each in taken[:-1]}) == len(taken) - 1
