"""Who listens on a port of this machine, as Linux tells; elsewhere nobody says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTENS = "0A"


def taken_by(port: int) -> str | None:
    """`process 77 (nginx)`, or `another process` where its name is not for us; None where nobody is known to listen."""
    sockets = set(_listening(port))
    if not sockets:
        return None
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            if any(_link(file) in sockets for file in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "another process"


def _listening(port: int) -> Iterator[str]:
    """The sockets that listen there, as they are called among a process's files."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""
