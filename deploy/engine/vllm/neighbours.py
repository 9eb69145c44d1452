"""What the gateways of one state directory tell each other of the engines that they share.

Each writes what it needs into a file of its own and reads the others', as long as these run. So what one gateway needs the
others load too and leave alone, and all plan the same slots. Of each replica they share a lock: no adapter joins replies by
another gateway's bare base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from deploy.engine.vllm.base_lock import BaseLock
from deploy.state import State
from feedback.durable import write_json

log = structlog.get_logger()


class Needs(Struct, frozen=True):
    """What one gateway needs: digests of adapters, the most wanted first."""

    routed: tuple[str, ...] = ()
    """Named by the routing, as this gateway knows it."""
    named: tuple[str, ...] = ()
    """Asked for by name."""
    used: tuple[str, ...] = ()
    """Replies are by these."""


def wanted_by(needs: Sequence[Needs]) -> list[str]:
    """What is to be served, the most wanted first: what the routing names comes before what was asked for by name.

    >>> wanted_by([Needs(("i", "c"), ("x",)), Needs(("i",), ("y",))])
    ['i', 'c', 'x', 'y']
    """
    routed = [digest for each in needs for digest in each.routed]
    named = [digest for each in needs for digest in each.named]
    return list(dict.fromkeys([*routed, *named]))


class Neighbours:
    """The gateways of `state`, as the one on `seat` sees them. Its files may be asked from one thread at a time."""

    def __init__(self, state: State, seat: int) -> None:
        self._state, self._seat = state, seat
        self._told: Needs | None = None

    def meet(self, ours: Needs) -> list[Needs]:
        """Tell what this gateway needs; what each of them does that runs now, this one among them, by seat. Raises OSError."""
        if ours != self._told:
            self._state.adapters.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(self._path(self._seat), msgspec.to_builtins(ours))
            self._told = ours
        others = [(seat, self._read(seat)) for seat in self._state.seats() if seat != self._seat]
        found = [(self._seat, ours), *((seat, needs) for seat, needs in others if needs is not None)]
        return [needs for _, needs in sorted(found, key=lambda one: one[0])]

    def base_lock(self, url: str) -> BaseLock:
        """Who may ask the replica there for its base itself. Raises OSError."""
        return BaseLock(self._state.adapters / f".base-{hashlib.sha256(url.encode()).hexdigest()[:16]}")

    def _read(self, seat: int) -> Needs | None:
        """None where no gateway has that seat, or it has said nothing yet."""
        if not self._state.seated(seat):
            return None
        try:
            return msgspec.json.decode(self._path(seat).read_bytes(), type=Needs)
        except FileNotFoundError:
            return None
        except (
            msgspec.MsgspecError
        ) as error:  # of another version, say: what it needs may be let go of, and is loaded again
            log.warning("gateway_not_understood", seat=seat, error=str(error)[:300])
            return None

    def _path(self, seat: int) -> Path:
        return self._state.adapters / f".gateway-{seat}.json"
