"""The line between `trimtab up` and a role that it started: a socket of which each holds one end.

So each knows when the other is gone, however that came about, and what is said on it can come from nobody else.
"""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress

READY = b"ready\n"
STDIN = 0


class Lifeline:
    """One end of the line; any thread may use it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def of_child(cls) -> Lifeline:
        """The child's end, which is its stdin."""
        return cls(socket.socket(fileno=STDIN))

    def say_ready(self) -> None:
        """Tell the other end that this process can do its work."""
        with suppress(OSError):  # the other end is gone, which `wait_gone` says
            self._end.send(READY)

    def heard_ready(self) -> bool:
        """Whether the other end has said so since this was last asked; does not block."""
        try:
            return bool(self._end.recv(len(READY), socket.MSG_DONTWAIT))
        except OSError:
            return False

    def wait_gone(self) -> None:
        """Block until the other end is gone."""
        with suppress(OSError):
            while self._end.recv(len(READY)):
                pass

    def close(self) -> None:
        self._end.close()


def start(command: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], Lifeline]:
    """Start a process that holds one end as its stdin, in a process group of its own; returns it with our end."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(command, env=environment, stdin=theirs.fileno(), start_new_session=True)  # noqa: S603 (ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, Lifeline(ours)
