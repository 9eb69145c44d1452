"""The values that were set last, by key: as many as fit, the oldest go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `room` values.

    >>> numbers = Recent(2)
    >>> for name in "aba": numbers.set(name, ord(name))
    >>> numbers.set("c", 99)
    >>> numbers.get("a"), numbers.get("b")
    (97, None)
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def set(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._room:
            self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget it; fine where it is not known."""
        self._values.pop(key, None)
