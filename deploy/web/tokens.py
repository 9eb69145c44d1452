"""Random bytes by the thousand: `secrets`, asked once for many."""

from __future__ import annotations

import secrets

_MANY = 4_096


class _Tokens:
    """To ask the system each time lets go of the interpreter's lock, which others are waiting for."""

    def __init__(self) -> None:
        self._left = b""

    def __call__(self, size: int) -> bytes:
        """So many unguessable bytes, never given twice."""
        if len(self._left) < size:
            self._left = secrets.token_bytes(max(size, _MANY))
        taken, self._left = self._left[:size], self._left[size:]
        return taken


token_bytes = _Tokens()
