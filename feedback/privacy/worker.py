"""Redaction in a process of its own: `re` holds the interpreter, and here there is nobody else who would have to wait.

Reads frames from stdin (their length in four bytes, then MessagePack): parts of events, see `Redactor.parts`. Answers each
on stdout in the same way; an empty frame says that it could not. Says so once it is ready, with an empty frame. Ends with
its stdin, and where one frame takes longer than the seconds in its first argument: whoever asked has gone by then.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import BinaryIO

import msgspec

from feedback.privacy.redact import Redactor

HEAD_BYTES = 4
NICE = 10
"""A stranger's worst text must not take the processor from those who answer chats."""


def main(arguments: list[str]) -> None:
    """Serve until stdin ends."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for whoever started this, who closes stdin
    serve(sys.stdin.buffer, sys.stdout.buffer, int(arguments[0]))


def serve(asked: BinaryIO, answers: BinaryIO, limit_s: int) -> None:
    """Answer frame by frame. No one who asks has the key: nothing here hashes a user."""
    redactor = Redactor(b"")
    answers.write(frame(b""))
    answers.flush()
    while len(head := asked.read(HEAD_BYTES)) == HEAD_BYTES:
        parts = asked.read(int.from_bytes(head))
        signal.alarm(limit_s)  # its default ends the process, whatever Python is busy with
        answer = _redacted(redactor, parts)
        signal.alarm(0)
        answers.write(frame(answer))
        answers.flush()


def frame(content: bytes) -> bytes:
    """The bytes with their length before them."""
    return len(content).to_bytes(HEAD_BYTES) + content


def _redacted(redactor: Redactor, parts: bytes) -> bytes:
    try:
        return msgspec.msgpack.encode(redactor.parts(msgspec.msgpack.decode(parts)))
    except Exception:  # whatever it was, the next one is answered
        return b""


if __name__ == "__main__":
    main(sys.argv[1:])
