"""Server-sent events as they come off the wire: bytes in, the data of whole events out."""

from __future__ import annotations

MAX_EVENT_BYTES = 8_000_000


class TooLong(Exception):
    """An event that does not end."""


class Events:
    """Feed it bytes in any pieces. Comments and fields other than `data` are left out, as the standard says."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that are complete now. Raises TooLong.

        >>> events = Events()
        >>> events.feed(b'data: {"a":')
        []
        >>> events.feed(b' 1}\\n\\n: alive\\n\\ndata: [DONE]\\n\\n')
        [b'{"a": 1}', b'[DONE]']
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        complete: list[bytes] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                complete.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise TooLong(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
        return complete
