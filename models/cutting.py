"""What is kept of a conversation and of replies that have no room together: for training and serving alike. Pure.

History goes message by message, the oldest first and as little as needed. The leading system message and the last message
stay whole while they fit together; else the longer one is cut, inside its markers. A reply is cut last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

_RESERVED = 4
"""A reply may always have this part of the length; a prompt that needs the rest is cut."""


def prompt_room(length: int, reply_tokens: int) -> int:
    """Tokens of the prompt at most, where a reply of so many is to be written: a quarter of the length is enough for it.

    >>> prompt_room(1_000, 48), prompt_room(100, 48)
    (952, 75)
    """
    return length - min(reply_tokens, length // _RESERVED)


def reply_room(length: int, needed: int) -> int:
    """Tokens of a given reply at most, after a prompt that needs so many for its system and its last message.

    >>> reply_room(1_000, 300), reply_room(1_000, 900)
    (700, 250)
    """
    return max(length - needed, length // _RESERVED)


def fewest_dropped(most: int, fits: Callable[[int], bool]) -> int:
    """The fewest of `most` oldest messages without which the rest fits; `most` where it never does.

    What fits without n fits without n + 1: so it takes a few looks only, however many messages there are.

    >>> fewest_dropped(80, lambda n: (81 - n) * 6 <= 27 * 6)
    54
    """
    return 0 if fits(0) else bisect_left(range(1, most), True, key=fits) + 1 if most else 0


def share(room: int, first: int, last: int) -> tuple[int, int]:
    """Tokens to keep of two messages: the longer one is cut, and neither below half of the room.

    >>> share(100, 30, 60), share(100, 30, 300), share(100, 300, 20), share(100, 300, 300)
    ((30, 60), (30, 70), (80, 20), (50, 50))
    """
    first = max(0, min(first, max(room // 2, room - last)))
    return first, min(last, max(room - first, 0))
