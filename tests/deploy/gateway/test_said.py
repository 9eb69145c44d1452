"""What pieces say together is what was said, however it was cut into pieces."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta

from deploy.gateway.said import Choice, Said, merge
from tests.openai_server import chunks, completion

TEXTS = st.text(max_size=8)
CALLS = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.sampled_from(["weather", "time"]), "arguments": TEXTS}),
    }
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXTS},
    optional={
        "tool_calls": st.lists(CALLS, min_size=1, max_size=3),
        "reasoning_content": TEXTS,
        "refusal": st.none() | TEXTS,
        "audio": st.fixed_dictionaries({"id": st.just("audio_1"), "data": TEXTS, "transcript": TEXTS}),
    },
)


@st.composite
def split(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A message, and pieces of it as a server would send them; those of one event may be of several calls."""
    message = draw(MESSAGES)
    first: dict[str, Any] = {"role": "assistant"}
    rest: list[dict[str, Any]] = []
    for name, value in message.items():
        if name == "tool_calls":
            for index, call in enumerate(value):
                head = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
                tail = [
                    {"index": index, "function": {"arguments": piece}}
                    for piece in draw(cut(call["function"]["arguments"]))
                ]
                rest += [{"tool_calls": [piece]} for piece in [head, *tail]]
        elif name == "audio":
            rest.append({"audio": {"id": value["id"]}})
            for part in ("data", "transcript"):
                rest += [{"audio": {part: piece}} for piece in draw(cut(value[part]))]
        elif isinstance(value, str) and name != "role":
            rest += [{name: piece} for piece in draw(cut(value))]
        else:
            first[name] = value
    if len(rest) > 1 and draw(st.booleans()) and all("tool_calls" in piece for piece in rest[-2:]):
        rest[-2:] = [{"tool_calls": [call for piece in rest[-2:] for call in piece["tool_calls"]]}]
    return message, [first, *rest]


def cut(text: str) -> st.SearchStrategy[list[str]]:
    """Text in pieces, at least one."""
    return st.lists(st.integers(0, len(text)), max_size=4).map(
        lambda places: [
            text[one:other] for one, other in zip([0, *sorted(places)], [*sorted(places), len(text)], strict=True)
        ]
    )


def merged(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for piece in pieces:
        merge(whole, piece)
    return whole


def numbered(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls", ()))]
    return message | ({"tool_calls": calls} if calls else {})


@settings(max_examples=100)
@given(split())
def test_any_split_of_a_message_gives_the_message(case: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    message, pieces = case
    before = copy.deepcopy(pieces)
    assert merged(pieces) == numbered(message)
    assert pieces == before  # they have yet to be told


@settings(max_examples=100)
@given(split())
def test_pieces_make_what_openais_own_client_makes_of_them(case: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    _, pieces = case
    theirs: dict[object, object] = {}
    for piece in copy.deepcopy(pieces):
        theirs = accumulate_delta(theirs, piece)  # type: ignore[arg-type]
    assert merged(pieces) == theirs


@settings(max_examples=100)
@given(split())
def test_what_is_logged_is_the_same_whether_it_was_streamed_or_not(
    case: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    message, pieces = case
    streamed, at_once = Said(), Said()
    for piece in pieces:
        streamed.add({"choices": [{"index": 0, "delta": piece}]})
    at_once.add({"choices": [{"index": 0, "message": message}]})
    assert streamed.choices[0].reply == at_once.choices[0].reply


@pytest.mark.parametrize(
    "more", [{}, {"tools": [{"function": {"name": "weather"}}]}, {"response_format": {"type": "json_schema"}}]
)
def test_the_choices_of_a_stream_are_told_apart(more: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "n": 3, **more}
    streamed, at_once = Said(), Said()
    for chunk in chunks(body | {"stream_options": {"include_usage": True}}):
        assert not (streamed.ended(3) and chunk["choices"])
        streamed.add(chunk)
    at_once.add(completion(body))
    assert (streamed.ended(3), streamed.usage) == (True, at_once.usage)
    for index in range(3):
        one, other = streamed.choices[index], at_once.choices[index]
        assert (one.reply, one.finish_reason) == (other.reply, other.finish_reason)


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ({}, ""),
        ({"content": None}, ""),
        ({"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "tool_calls": []}, "Hi"),
        ({"content": None, "refusal": "No."}, {"role": "assistant", "refusal": "No."}),
        ({"content": "Hi", "reasoning": "hm"}, {"role": "assistant", "content": "Hi", "reasoning": "hm"}),
        (
            {"content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
        ),
    ],
)
def test_a_reply_is_text_where_it_is_nothing_else(message: dict[str, Any], reply: Any) -> None:
    assert Choice(message).reply == reply


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"choices": None, "usage": None},
        {"choices": {"a": 1}, "usage": [1]},
        {"choices": [None, 1, "x", {"index": "0"}, {"index": None}]},
        {"choices": [{"index": 0, "delta": "text", "finish_reason": 7}]},
    ],
)
def test_what_does_not_have_openais_shape_counts_for_nothing(document: dict[str, Any]) -> None:
    said = Said()
    said.add(document)
    assert said.usage == {}
    assert not said.ended(1)
    assert all(choice == Choice() for choice in said.choices.values())


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXTS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["content", "index", "role", "x"]), inner, max_size=3)
        ),
    ).filter(lambda value: isinstance(value, dict)),
    st.integers(1, 3),
)
def test_no_piece_of_any_shape_breaks_it(piece: dict[str, Any], times: int) -> None:
    said = Said()
    for _ in range(times):
        said.add({"choices": [{"delta": piece}]})
        said.add({"choices": [{"message": piece}], "usage": piece})
    assert all(choice.reply is not None for choice in said.choices.values())
