"""Which processes play which role here: each says so in a file of its own that it keeps locked for as long as it lives.

So nobody is taken for alive who was killed, and who was killed is still known by name until another takes its place.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

log = structlog.get_logger()


class Presence(Struct, frozen=True):
    """A process that plays a role. `admin` and `chats` are URLs; the admin port answers only on `host`."""

    role: str
    seat: int
    pid: int
    host: str
    started_at_us: int
    admin: str | None
    chats: str | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.role if self.seat == 1 else f"{self.role} {self.seat}"

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine (or in this container): else its process number and ports mean nothing to us."""
        return self.host == socket.gethostname()


def this_process(
    role: str, seat: int, started_at_us: int, admin: tuple[str, int] | None, chats: tuple[str, int] | None = None
) -> Presence:
    """That this process plays this role, with the addresses on which it listens."""
    urls = [None if address is None else url_of(*address) for address in (admin, chats)]
    return Presence(role, seat, os.getpid(), socket.gethostname(), started_at_us, *urls)


def url_of(host: str, port: int) -> str:
    """How this machine itself reaches what listens there."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (not bound here)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


@contextmanager
def present(root: Path, presence: Presence) -> Iterator[None]:
    """Be known to play the role meanwhile. Whoever died in this place is forgotten. A disk that is full takes no note of it."""
    folder = _folder(root)
    path = folder / f"{presence.role}-{secrets.token_hex(4)}.json"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for other, its in _found(folder):
            if (its.role, its.seat) == (presence.role, presence.seat) and not _is_locked(other):
                other.unlink(missing_ok=True)
        file = path.open("wb", buffering=0)
    except OSError as error:
        log.warning("role_not_noted", error=str(error))
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):
            file.write(msgspec.json.encode(presence))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def who_is_there(root: Path) -> tuple[list[Presence], list[Presence]]:
    """Who plays a role now, and who did until it died, by role and seat."""
    alive, dead = list[Presence](), list[Presence]()
    for path, presence in sorted(_found(_folder(root)), key=lambda item: (item[1].role, item[1].seat)):
        (alive if _is_locked(path) else dead).append(presence)
    return alive, dead


def _folder(root: Path) -> Path:
    return root / "roles"


def _found(folder: Path) -> Iterator[tuple[Path, Presence]]:
    for path in folder.glob("*.json"):
        with suppress(OSError, msgspec.DecodeError):  # just gone, or just made
            yield path, msgspec.json.decode(path.read_bytes(), type=Presence)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # just gone
        return False
    return False
