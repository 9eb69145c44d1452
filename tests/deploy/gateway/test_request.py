"""What every engine has to know of a chat request. What only the local one can't do: tests/deploy/engine/test_parameters.py."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.gateway.request import parse_chat
from deploy.gateway.turn_ids import MAX_CHOICES
from deploy.web.errors import ApiError

CHAT: dict[str, Any] = {"model": "trimtab", "messages": [{"role": "user", "content": "Hello"}]}


def test_usage_is_told_only_to_whoever_asks_for_it_in_a_stream() -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert parse_chat(CHAT | asked).include_usage
    assert not parse_chat(CHAT | {"stream": True, "stream_options": {}}).include_usage


def test_what_nobody_here_has_heard_of_is_between_the_client_and_the_engine() -> None:
    body = CHAT | {"tools": [{"type": "function"}], "x": {"y": [1]}, "n": 3}
    body["messages"] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    ]
    request = parse_chat(body)
    assert (request.body, request.messages, request.n) == (body, body["messages"], 3)


@pytest.mark.parametrize("n", [0, -1, MAX_CHOICES + 1, 1.0, True, "2"])
def test_choices_are_counted_in_whole_numbers(n: Any) -> None:
    with pytest.raises(ApiError, match="n must be a whole number") as raised:
        parse_chat(CHAT | {"n": n})
    assert raised.value.param == "n"


def test_a_part_without_a_type_is_none() -> None:
    with pytest.raises(ApiError, match="must be an object with a type"):
        parse_chat(CHAT | {"messages": [{"role": "user", "content": ["text"]}]})
