"""The process that redacts: frames in, frames out."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from feedback.privacy.redact import Redactor
from feedback.privacy.worker import HEAD_BYTES, frame, serve
from tests.feedback.privacy.test_redact import CHAIN

PARTS = {
    "messages": [{"role": "user", "content": "I am ann@example.com", "name": "ann"}],
    "reply": {"role": "assistant", "content": "call +49 30 901820"},
    "tags": {"app": "ann@example.com"},
    "extra": {"a": [1, None, 4111111111111111]},
    "value": "card 4111111111111111",
}


def answers(*asked: bytes) -> list[bytes]:
    """What is answered, in order, once it is ready."""
    out = io.BytesIO()
    serve(io.BytesIO(b"".join(map(frame, asked))), out, 60)
    raw, found = out.getvalue(), list[bytes]()
    while raw:
        size = int.from_bytes(raw[:HEAD_BYTES])
        found.append(raw[HEAD_BYTES : HEAD_BYTES + size])
        raw = raw[HEAD_BYTES + size :]
    assert found.pop(0) == b""
    return found


def sent(parts: Any) -> bytes:
    return msgspec.msgpack.encode(parts)


def test_parts_of_events_are_redacted_as_they_are_here() -> None:
    (answer,) = answers(sent(PARTS))
    assert msgspec.msgpack.decode(answer) == Redactor(b"any key").parts(PARTS)


def test_what_can_not_be_read_is_answered_and_the_next_is_taken() -> None:
    assert answers(b"\xc1", sent([]), sent({"value": 7}), sent({"value": "ok"}))[-1] == sent({"value": "ok"})


@pytest.mark.slow
def test_it_ends_by_itself_when_nobody_ends_it() -> None:
    command = [sys.executable, "-P", "-m", "feedback.privacy.worker", "1"]
    asked = frame(sent({f"value {number}": CHAIN * 20_000 + str(number) for number in range(40)}))
    done = subprocess.run(command, input=asked, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGALRM, frame(b""))


@pytest.mark.slow
def test_it_knows_nothing_but_redaction() -> None:
    show = "import sys, feedback.privacy.worker; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split()
    assert not {"deploy", "models", "streams", "torch", "fastapi", "sqlalchemy", "numpy"} & set(loaded)
