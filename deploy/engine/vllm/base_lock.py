"""Who may ask one replica for its base itself: several gateways at once, or none, while one of them loads what must not join it.

A lock of the system's, shared by the ones and held alone by the other: whoever dies lets go of it.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Literal


class BaseLock:
    """One gateway's hold on the lock in this file, which is made. Nothing here waits. Raises OSError where it can't be made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = path.open("ab")
        self.held: Literal["shared", "alone"] | None = None

    def share(self) -> bool:
        """Whether it is held with others from here on; not while anybody holds it alone."""
        if self.held is None and self._got(fcntl.LOCK_SH):
            self.held = "shared"
        return self.held == "shared"

    def take(self) -> bool:
        """Whether it is held alone from here on; a share of ours is given up, also where others have one and this fails."""
        if self.held != "alone":
            self.release()
            if self._got(fcntl.LOCK_EX):
                self.held = "alone"
        return self.held == "alone"

    def release(self) -> None:
        """Let go of it; again is fine."""
        if self.held is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.held = None

    def close(self) -> None:
        """Let go of it for good."""
        self.held = None
        self._file.close()

    def _got(self, how: int) -> bool:
        try:
            fcntl.flock(self._file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
