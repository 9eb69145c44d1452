"""Where a record belongs is told of what is clearly something else, and of nothing else."""

from __future__ import annotations

import pytest

from feedback.topics import JUDGE_REQUESTS, RATINGS, TURNS, VERDICTS
from streams.hops.kinds import stray
from streams.log import Stored


def why(topic: str, value: bytes) -> str | None:
    rejected = stray(Stored(topic, 0, 0, 0, b"", value, ()))
    return None if rejected is None else rejected.message


@pytest.mark.parametrize("topic", [TURNS, RATINGS, VERDICTS, JUDGE_REQUESTS])
@pytest.mark.parametrize(
    ("value", "kind", "home"),
    [
        (b'{"event":"turn"}', "turn", TURNS),
        (b'{"event":"rating"}', "rating", RATINGS),
        (b'{"event":"verdict"}', "verdict", VERDICTS),
        (b'{"event":"unjudged"}', "verdict", VERDICTS),
        (b'{"request_id":"q"}', "request", JUDGE_REQUESTS),
    ],
)
def test_each_kind_has_one_home(topic: str, value: bytes, kind: str, home: str) -> None:
    assert why(topic, value) == (None if topic == home else f"a {kind} on {topic}: send it to {home}")


@pytest.mark.parametrize(
    "value",
    [b"", b"{no json", b"[]", b"7", b"{}", b'{"event":"applause"}', b'{"event":["turn"]}', b'{"request_id":7}',
     b"\xff", b'{"event":' * 50_000],
)  # fmt: skip
def test_what_nobody_knows_is_left_to_those_who_decode_it(value: bytes) -> None:
    assert why(TURNS, value) is None
