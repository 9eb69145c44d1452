"""What the local engine can do: whatever JSON comes in, a request that it can answer comes out or a 400 that names the field."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.engine import parameters
from deploy.engine.parameters import MAX_STOPS, check_messages, sampling_of
from deploy.engine.port import ChatRequest, Sampling, Unsupported
from deploy.gateway.live_turn import explained
from deploy.gateway.request import MAX_MESSAGES, parse_chat
from deploy.web.errors import ApiError

MOST = 256
HELLO: Any = [{"role": "user", "content": "Hello"}]
CHAT: dict[str, Any] = {"model": "trimtab", "messages": HELLO}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "refusal", "image_url"]) | ANYTHING,
        "text": ANYTHING,
        "refusal": ANYTHING,
    },
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "developer"]) | ANYTHING,
        "content": st.text(max_size=8) | st.lists(PARTS | ANYTHING, max_size=3) | ANYTHING,
        "x": ANYTHING,
    },
)
NUMBERS = st.floats(0, 2) | st.integers(1, 2**63 - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model": st.text(max_size=4),
    "messages": st.lists(MESSAGES | ANYTHING, max_size=3),
    "max_tokens": NUMBERS,
    "max_completion_tokens": NUMBERS,
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "seed": NUMBERS,
    "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=5),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": ANYTHING}),
    "n": st.integers(0, 2),
    "tools": st.lists(ANYTHING, max_size=1),
    "response_format": st.just({"type": "text"}),
    "metadata": ANYTHING,
    "reasoning_effort": ANYTHING,
}
FIELDS = st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name] | ANYTHING))


Asked = tuple[ChatRequest, Sampling]


def asked(body: dict[str, Any]) -> Asked:
    """What is asked of the local engine. Raises ApiError."""
    request = parse_chat(body)
    try:
        check_messages(request.messages)
        return request, sampling_of(body, MOST)
    except Unsupported as error:
        raise explained(error) from None


def parsed(body: dict[str, Any]) -> Asked | ApiError:
    try:
        return asked(body)
    except ApiError as error:
        return error


def refused(body: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        asked(body)
    return raised.value


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=8), ANYTHING, max_size=3), st.lists(FIELDS, max_size=6), st.booleans())
def test_any_object_is_a_request_that_can_be_answered_or_a_400_that_names_a_field(
    odd: dict[str, Any], fields: list[tuple[str, Any]], sound: bool
) -> None:
    body = (CHAT if sound else odd) | dict(fields)
    answer = parsed(body)
    if isinstance(answer, ApiError):
        assert (answer.status, answer.message.isprintable()) == (400, True)
        assert answer.param is not None
        assert answer.param.isascii()
        return
    request, sampling = answer
    assert request.model
    assert request.messages == body["messages"]
    assert 1 <= sampling.max_tokens <= MOST
    assert sampling.temperature == 0 or 1e-4 <= sampling.temperature <= 2
    assert 0 < sampling.top_p <= 1
    assert sampling.seed is None or -(2**63) <= sampling.seed < 2**63
    assert len(sampling.stop) <= MAX_STOPS
    assert all(sampling.stop)
    assert request.stream or not request.include_usage


@settings(max_examples=100)
@given(FIELDS)
def test_one_field_that_is_wrong_is_the_one_that_is_named(field: tuple[str, Any]) -> None:
    name, value = field
    error = parsed(CHAT | {"stream": True, name: value})
    if isinstance(error, ApiError):
        assert error.param is not None
        assert error.param.partition("[")[0].partition(".")[0] == name


KNOWN = {*VALUES, *parameters._TAKEN, *parameters._IGNORED, *parameters._ONLY}


@settings(max_examples=100)
@given(st.text(min_size=1).filter(lambda name: name not in KNOWN))
def test_a_field_that_is_none_of_openais_is_named_so_that_it_can_be_printed(name: str) -> None:
    error = refused(CHAT | {name: 1})
    assert error.param is not None
    assert len(error.message) < 200
    assert (error.message + error.param).isascii()


@pytest.mark.parametrize("absent", [{}, dict.fromkeys(VALUES.keys() - CHAT.keys())])
def test_what_is_absent_or_null_is_openais_default(absent: dict[str, None]) -> None:
    body = CHAT | absent
    assert asked(body) == (ChatRequest("trimtab", HELLO, False, False, 1, body), Sampling(MOST))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": HELLO * (MAX_MESSAGES + 1)}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": ""}]}, "messages[0].role"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": ["text"]}]}, "messages[0].content[0]"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"audio": {}}, "audio"),
        ({"temprature": 1}, "temprature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 0, "max_completion_tokens": 5}, "max_tokens"),
        ({"seed": "x"}, "seed"),
        ({"seed": 10**30}, "seed"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": [True]}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_can_not_be_had_is_a_400_that_names_it(change: dict[str, Any], param: str) -> None:
    error = refused(CHAT | change)
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize(("name", "least"), [("max_tokens", 1), ("seed", -(2**63))])
def test_a_whole_number_that_is_too_great_is_told_how_great_it_may_be(name: str, least: int) -> None:
    assert refused(CHAT | {name: 2**63}).message == f"{name} must be a whole number from {least} to {2**63 - 1}"


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-38])
def test_a_temperature_by_which_no_engine_can_divide_is_zero(temperature: float) -> None:
    assert asked(CHAT | {"temperature": temperature})[1].temperature == 0


@pytest.mark.parametrize(
    "harmless",
    [
        {"n": 1},
        {"tools": []},
        {"tool_choice": "auto"},
        {"logit_bias": {}},
        {"presence_penalty": 0},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
        {"audio": None},
        {"store": True},
        {"reasoning_effort": "low"},
        {"temperature": 0},
        {"seed": -1},
        {"messages": [{"role": "assistant"}, *HELLO]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": ""}]}
            ]
        },
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_changes_nothing_is_taken(harmless: dict[str, Any]) -> None:
    asked(CHAT | harmless)


def test_the_newer_name_of_the_limit_counts_and_the_services_limit_bounds_both() -> None:
    assert asked(CHAT | {"max_tokens": 9, "max_completion_tokens": 5})[1].max_tokens == 5
    assert asked(CHAT | {"max_tokens": 9})[1].max_tokens == 9
    assert asked(CHAT | {"max_tokens": 2**63 - 1})[1].max_tokens == MOST
