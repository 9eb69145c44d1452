"""What holds secrets is for its owner alone: what others may do with it is taken away, and said; where that can't be, refused."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

import structlog

OTHERS = 0o077

log = structlog.get_logger()


class Exposed(Exception):
    """Others may read or change it, and it is not ours to forbid them. `mode` is what they and its owner may."""

    def __init__(self, mode: int) -> None:
        super().__init__(f"mode {mode:04o}")
        self.mode = mode


def keep_private(path: Path) -> None:
    """Leave a file or directory to its owner, with a line in the log where it was not. Raises Exposed, and OSError where it is
    not there."""
    was = _mode(path)
    if not was & OTHERS:
        return
    with suppress(OSError):  # what counts is how it is afterwards
        path.chmod(was & ~OTHERS)
    now = _mode(path)
    if now & OTHERS:
        raise Exposed(was)
    log.warning(
        "made_private",
        path=str(path),
        was=f"{was:04o}",
        now=f"{now:04o}",
        next="others on this machine could use it until now: if that matters, change what is secret in it",
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
