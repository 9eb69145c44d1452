"""What was worked out last, by key: as many bytes of it as there is room for, the oldest go first."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES = 200
"""What one entry takes beside its key and value."""


class Remembered(Generic[K, V]):
    """A cache of at most `room_bytes`, as whoever sets a value says how large it is (with its key).

    Two generations: what is looked up moves to the young one, and where that has half of the room it becomes the old one.
    So a look costs hardly more than a dictionary's. Any thread may call; what two set at once may be counted as one.

    >>> squares = Remembered(10_000)
    >>> squares.set(3, 9, 56)
    >>> squares.get(3), squares.get(4)
    (9, None)
    """

    def __init__(self, room_bytes: int) -> None:
        self._room = room_bytes
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._used = 0

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, key: K) -> V | None:
        """The value, if it is still there."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None:
                return None
            self.set(key, *entry)
        return entry[0]

    def set(self, key: K, value: V, size: int) -> None:
        """Remember it; what alone would take an eighth of the room is not worth what would have to go."""
        if size > self._room // 8:
            return
        self._young[key] = value, size
        self._used += size + ENTRY_BYTES
        if self._used > self._room // 2:
            self._old, self._young, self._used = self._young, {}, 0
