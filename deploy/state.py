"""The state directory: everything that one deployment keeps on this machine.

`spool.db` (events that a gateway has yet to send; `spool-2.db` of a second one), `log.db` (events in flight), `facts/` (what
happened), `roles/` (who plays which role), `snapshots/`, `bases/`, `candidates/`, `work/` (trainings under way), `control.db`
(decisions), `secrets/` (keys). Private (mode 0700; one that others may look into is closed to them, or refused), never committed
by accident (its own .gitignore), with a format version, and with one lock per role so
that two processes never play the same one. Of gateways there may be several: each has a seat of its own, with a spool of its
own.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from deploy.errors import Failed, Refused
from feedback.private import Exposed, keep_private

FORMAT = 1
FRESH = ".FORMAT."
"""How the version's file is called before it is complete."""

GATEWAY = "gateway"
"""The role that several processes may play."""

CLOSED = "no-gateways"
"""The lock of whoever works where no gateway may."""


@dataclass(frozen=True)
class State:
    """Paths of one state directory. Make one with `open_state`."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log.db"

    def spool(self, seat: int) -> Path:
        """The spool of the gateway on this seat, and of whoever has the seat after it."""
        return self.root / ("spool.db" if seat == 1 else f"spool-{seat}.db")

    @property
    def control(self) -> Path:
        return self.root / "control.db"

    @property
    def facts(self) -> Path:
        return self.root / "facts"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def candidates(self) -> Path:
        return self.root / "candidates"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    def engine(self, seat: int) -> Path:
        """Which engine the gateway on this seat asks."""
        return self.root / ("engine.json" if seat == 1 else f"engine-{seat}.json")

    def replicas(self, seat: int) -> Path:
        """What the gateway on this seat says of vLLM's replicas."""
        return self.root / ("replicas.json" if seat == 1 else f"replicas-{seat}.json")

    @property
    def unsigned(self) -> Path:
        """Where the log's questions and verdicts ended when they began to be signed."""
        return self.root / "unsigned.json"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def secret(self, name: str) -> bytes:
        """32 random bytes, made once and kept in secrets/NAME; the same for every process of this deployment."""
        path = self.root / "secrets" / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            fresh = path.with_name(f".{name}.{secrets.token_hex(8)}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # of two processes at once the first one's secret stands
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            return path.read_bytes()

    @contextmanager
    def lock(self, role: str) -> Iterator[None]:
        """Play `role` alone. Raises Refused, naming the process that has it."""
        path = self.root / "locks" / role
        with path.open("a+") as file:
            if not _locked(file):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise Refused(
                    f"the {role} of {self.root} is already running (process {holder}): stop it first, "
                    f"or give this one another directory with --state"
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    @contextmanager
    def play(self, role: str) -> Iterator[int]:
        """Play `role`: alone, or as a gateway on the first seat that is free; yields its number, 1 or more.

        A gateway that died leaves its seat, and its spool with it, to the next one that starts. Raises Refused.
        """
        with ExitStack() as held:
            if role != GATEWAY:
                held.enter_context(self.lock(role))
                yield 1
                return
            for number in count(1):
                with suppress(Refused):
                    held.enter_context(self.lock(_seat(number)))
                    break
            if self._is_locked(CLOSED):
                raise Refused(f"{self.root} is being moved to another log: start the gateway when that is done")
            yield number

    @contextmanager
    def without(self, role: str) -> Iterator[None]:
        """While nobody plays `role`, and nobody begins to. Raises Refused, naming the process that does."""
        with ExitStack() as held:
            if role != GATEWAY:
                held.enter_context(self.lock(role))
            else:
                held.enter_context(self.lock(CLOSED))  # who takes a seat looks at this next
                for number in self.seats():
                    with self.lock(_seat(number)):
                        pass
            yield

    def played(self, role: str) -> bool:
        """Whether a process plays `role` now."""
        return any(map(self._is_locked, map(_seat, self.seats()) if role == GATEWAY else [role]))

    def seats(self) -> list[int]:
        """The gateways' seats that were ever taken."""
        found = (path.name.removeprefix(GATEWAY) for path in (self.root / "locks").glob(f"{GATEWAY}*"))
        return sorted(int(rest[1:] or 1) for rest in found if not rest or rest[1:].isdecimal())

    def seat(self, number: int) -> AbstractContextManager[None]:
        """Have this seat, which a gateway has left. Raises Refused where one has it."""
        return self.lock(_seat(number))

    def seated(self, seat: int) -> bool:
        """Whether a gateway has this seat now."""
        return self._is_locked(_seat(seat))

    def holder(self, seat: int) -> str:
        """The process that has this seat, or had it last, by its number."""
        return (self.root / "locks" / _seat(seat)).read_text().strip() or "unknown"

    def held(self) -> dict[str, int | None]:
        """The locks that are held now, by name, with the process that has each as far as it is known."""
        names = sorted(path.name for path in (self.root / "locks").glob("*") if self._is_locked(path.name))
        said = {name: (self.root / "locks" / name).read_text().strip() for name in names}
        return {name: int(pid) if pid.isdecimal() else None for name, pid in said.items()}

    def _is_locked(self, name: str) -> bool:
        try:
            with (self.root / "locks" / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def open_state(root: Path) -> State:
    """The state directory at `root`, made if it is not there.

    Closed to others where it is not yet. Raises Failed when it can't be written or closed, is not ours, or belongs to a newer
    version.
    """
    root = root.absolute()
    version_file = root / "FORMAT"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = [path for path in root.iterdir() if path.name not in (".gitignore", "locks", "secrets", "bases")]
        # looked at in this order: who makes it at the same moment makes the version first, and then the rest
        if not version_file.exists():
            if any(not path.name.startswith(FRESH) for path in others):
                raise Failed(
                    f"{root} holds other files and is no Trimtab state directory: name another one with --state"
                )
            _write_version(root)
        for folder in ("facts", "snapshots", "bases", "candidates", "work", "secrets", "locks"):
            (root / folder).mkdir(mode=0o700, exist_ok=True)
        (root / ".gitignore").write_text("*\n")
        _close_to_others(root)
    except OSError as error:
        raise Failed(
            f"the state directory {root} can't be written ({error.strerror}): name another with --state"
        ) from None
    return find_state(root)


def find_state(root: Path) -> State:
    """The state directory at `root` as it is, for whoever only looks: nothing is made or changed.

    Raises Failed where there is none, or it belongs to a newer version.
    """
    root = root.absolute()
    version_file = root / "FORMAT"
    try:
        version = version_file.read_text().strip()
    except FileNotFoundError:
        raise Failed(
            f"there is no state directory {root} yet: `trimtab replay FILE` or `trimtab up` makes one; or name another with "
            f"--state"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"the state directory {root} can't be read ({error}): name another with --state") from None
    if not (version.isdecimal() and len(version) < 10):  # int() reads neither `²` nor thousands of digits
        raise Failed(
            f"{version_file} should hold a number but holds {version[:20]!r}: restore it or name another --state"
        )
    if int(version) > FORMAT:
        raise Failed(
            f"the state directory {root} has format {version}, this version of Trimtab knows {FORMAT}: "
            f"upgrade Trimtab, or name another directory with --state"
        )
    return State(root)


def _seat(number: int) -> str:
    """What a gateway's lock is called."""
    return GATEWAY if number == 1 else f"{GATEWAY}-{number}"


def _locked(file: IO[str]) -> bool:
    """Lock it for ourselves; False where another process has. Who only looks (`played`) is out of the way in a moment."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(file, fcntl.LOCK_UN)
        else:
            return True


def _close_to_others(root: Path) -> None:
    """The directory, and what is secret in it by itself. Raises Failed, OSError."""
    for path in (root, root / "secrets", *(root / "secrets").iterdir()):
        try:
            keep_private(path)
        except Exposed as error:
            raise Failed(
                f"others can look into {path} (mode {error.mode:04o}), which holds chats and keys, and it is not ours to forbid them: "
                f"`chmod {700 if path.is_dir() else 600} {path}` as its owner, or name another directory with --state"
            ) from None
        except FileNotFoundError:  # a secret that another process was making
            pass


def _write_version(root: Path) -> None:
    fresh = root / f"{FRESH}{secrets.token_hex(8)}"
    fresh.write_text(f"{FORMAT}\n")
    fresh.replace(root / "FORMAT")
