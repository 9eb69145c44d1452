"""Whether the disk of a gateway's spool takes what begins now: there is room, and what was written last was written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from feedback.clock import Clock
from feedback.durable import RESERVE_BYTES, free_bytes

AGAIN_S = 2.0
"""How often a disk that took nothing is tried again."""

SCRATCH, SCRATCH_BYTES = ".room", 1_000_000
"""The file with which that is done, beside the spool."""


class Room:
    """Belongs to one event loop."""

    def __init__(self, folder: Path, clock: Clock, free: Callable[[], float] | None = None) -> None:
        """`free`: how many bytes are left, where that is not to be asked of the disk."""
        self._free, self._clock = free or partial(free_bytes, folder), clock
        self._scratch = folder / SCRATCH
        self._broken = False
        self._mending: asyncio.Task[None] | None = None

    @property
    def missing(self) -> str | None:
        """One sentence on why there may be none; None while there is."""
        if self._broken:
            return "the spool could not be written: the disk is full or broken; free some space"
        if (left := self._free()) < RESERVE_BYTES:
            return f"the disk is nearly full: {left / 1e6:.0f} MB are left; free some space"
        return None

    def failed(self) -> None:
        """Something could not be written: there is no room until something can."""
        self._broken = True
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._mend())

    async def close(self) -> None:
        """Look no more."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)

    async def _mend(self) -> None:
        """Find out when the disk takes something again: nobody may send anything meanwhile."""
        while self._broken:
            await self._clock.sleep(AGAIN_S)
            self._broken = not await asyncio.to_thread(_takes, self._scratch)


def _takes(scratch: Path) -> bool:
    """Whether a file can be written there; it is gone afterwards."""
    try:
        with scratch.open("wb") as file:
            file.write(bytes(SCRATCH_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    return True
