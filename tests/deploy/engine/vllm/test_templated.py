"""Which chats our own template can say, and a completion that nobody can tell from a chat."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.engine.port import ChatRequest
from deploy.engine.vllm.templated import (
    ChatDocuments,
    completion,
    is_plain,
    prompt_tokens,
    reply_tokens,
    without_markers,
)
from deploy.gateway.said import Said

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}


def asked(messages: list[dict[str, Any]] = HELLO, **more: Any) -> ChatRequest:
    body = {"model": "trimtab", "messages": messages, **more}
    return ChatRequest("trimtab", messages, bool(more.get("stream")), False, more.get("n") or 1, body)


def image() -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


PLAIN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "sampling": {"temperature": 0.3, "top_p": 0.9, "seed": 7, "frequency_penalty": 1, "logit_bias": {"5": -100}},
    "vLLM's sampling": {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "stop_token_ids": [7], "min_tokens": 2},
    "limits": {"max_tokens": 5, "max_completion_tokens": 6, "n": 3, "stop": ["a", "b"]},
    "a stream": {"stream": True, "stream_options": {"include_usage": True}},
    "nulls": {"tools": None, "response_format": None, "logprobs": None, "seed": None, "who_knows": None},
    "what asks for nothing": {
        "tools": [],
        "tool_choice": "none",
        "logprobs": False,
        "top_logprobs": 0,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "parallel_tool_calls": True,
    },
    "what is for the bill": {"user": "u-1", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
}
CHATS: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "a choice of tools": {"tool_choice": "required"},
    "functions": {"functions": [{"name": "f"}]},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    "any JSON": {"response_format": {"type": "json_object"}},
    "log-probabilities": {"logprobs": True, "top_logprobs": 2},
    "audio": {"modalities": ["text", "audio"], "audio": {"voice": "alloy"}},
    "a template's parameters": {"chat_template_kwargs": {"enable_thinking": False}},
    "another template": {"chat_template": "{{ messages }}"},
    "the last message continued": {"continue_final_message": True, "add_generation_prompt": False},
    "reasoning": {"reasoning_effort": "low"},
    "what only that endpoint knows": {"guided_regex": "a+", "structured_outputs": {"regex": "a+"}},
    "ids of tokens": {"return_token_ids": True},
    "a limit that is none": {"max_tokens": "many"},
    "a limit of nothing": {"max_completion_tokens": 0},
    "a limit that is true": {"max_tokens": True},
    "stops that are no list": {"stop_token_ids": "7"},
    "stops that are no ids": {"stop_token_ids": [7, [8]]},
}
TEXTS: dict[str, dict[str, Any]] = {
    "text": {"role": "user", "content": "a"},
    "parts": {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    "a developer": {"role": "developer", "content": "a"},
    "who speaks": {"role": "user", "content": "a", "name": "ann"},
    "what a client dumps of a reply": {"role": "assistant", "content": "a", "refusal": None, "tool_calls": []},
    "a reply that said nothing": {"role": "assistant", "content": None},
}
OTHERS: dict[str, dict[str, Any]] = {
    "an image": {"role": "user", "content": [{"type": "text", "text": "a"}, image()]},
    "a part without text": {"role": "user", "content": [{"type": "text"}]},
    "a call": {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
    "a tool's answer": {"role": "tool", "content": "4", "tool_call_id": "1"},
    "a function's answer": {"role": "function", "content": "4", "name": "f"},
    "reasoning": {"role": "assistant", "content": "a", "reasoning": "hm"},
    "a refusal": {"role": "assistant", "content": None, "refusal": "no"},
}


@pytest.mark.parametrize("case", PLAIN)
def test_a_request_for_text_is_plain(case: str) -> None:
    assert is_plain(asked(**PLAIN[case]))


@pytest.mark.parametrize("case", CHATS)
def test_what_only_the_chat_endpoint_can_do_is_not(case: str) -> None:
    assert not is_plain(asked(**CHATS[case]))


@pytest.mark.parametrize("case", TEXTS)
def test_messages_of_text_are_plain(case: str) -> None:
    assert is_plain(asked([TEXTS[case]]))


@pytest.mark.parametrize("case", OTHERS)
def test_messages_with_anything_else_are_not(case: str) -> None:
    assert not is_plain(asked([*HELLO, OTHERS[case], *HELLO]))


def test_the_newer_name_of_the_limit_goes_first() -> None:
    assert reply_tokens({"max_tokens": 5, "max_completion_tokens": 6}) == 6
    assert reply_tokens({"max_tokens": 5, "max_completion_tokens": None}) == 5
    assert reply_tokens({}) is None


def test_a_prompt_leaves_room_for_the_reply_but_never_more_than_a_quarter() -> None:
    assert prompt_tokens({"max_tokens": 20}, 100) == 80
    assert prompt_tokens({"max_tokens": 2_000}, 100) == 75
    assert prompt_tokens({}, 100) == 75


def test_a_completion_has_the_ids_and_what_both_endpoints_understand() -> None:
    body = asked(temperature=0, n=2, max_completion_tokens=6, stop="x", tools=[], metadata={"a": "b"}, seed=None).body
    assert completion(body, [4, 5], 100, None, ()) == {
        "prompt": [4, 5],
        "max_tokens": 6,
        "temperature": 0,
        "n": 2,
        "stop": "x",
    }


def test_a_reply_without_a_limit_has_the_rest_of_the_context_or_what_the_base_says() -> None:
    assert completion(asked().body, [4, 5], 100, None, ())["max_tokens"] == 98
    assert completion(asked().body, [4, 5], 100, 50, ())["max_tokens"] == 50
    assert completion(asked().body, [4, 5], 100, 500, ())["max_tokens"] == 98
    assert completion(asked().body, [4] * 101, 100, None, ())["max_tokens"] == 1
    assert (
        completion(asked(max_tokens=700).body, [4, 5], 100, 50, ())["max_tokens"] == 700
    )  # that is for vLLM to refuse


def test_a_turn_ends_where_training_ended_it_unless_the_client_wants_it_not_to_end() -> None:
    assert "stop_token_ids" not in completion(asked().body, [4], 100, None, ())
    assert completion(asked().body, [4], 100, None, {9, 7})["stop_token_ids"] == [7, 9]
    assert completion(asked(stop_token_ids=[3, 7]).body, [4], 100, None, {9, 7})["stop_token_ids"] == [3, 7, 9]
    assert "stop_token_ids" not in completion(asked(ignore_eos=True).body, [4], 100, None, {9})


def test_a_whole_completion_reads_as_a_chat() -> None:
    choice = {"text": "Hi", "logprobs": None, "finish_reason": "length", "stop_reason": None, "token_ids": None}
    document = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "usage": USAGE}
    read = ChatDocuments(stream=False)(document | {"choices": [choice | {"index": 0}, choice | {"index": 1}]})
    chat = {"message": {"role": "assistant", "content": "Hi", "refusal": None}, "logprobs": None}
    chat |= {"finish_reason": "length", "stop_reason": None}
    assert read == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "usage": USAGE,
        "choices": [{"index": 0} | chat, {"index": 1} | chat],
    }


def chunk(text: str, index: int = 0, end: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": end, **more}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def test_a_streamed_completion_reads_as_a_chats_chunks_each_choice_with_its_role_once() -> None:
    read = ChatDocuments(stream=True)
    told = [read(chunk("H")), read(chunk("", 1)), read(chunk("i")), read(chunk("", end="stop"))]
    assert {document["object"] for document in told} == {"chat.completion.chunk"}
    assert [document["choices"][0]["delta"] for document in told] == [
        {"role": "assistant", "content": "H"},
        {"role": "assistant", "content": ""},
        {"content": "i"},
        {},
    ]
    assert read({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": USAGE}) == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": USAGE,
    }
    heard = Said()
    for document in told:
        heard.add(document)
    assert (heard.choices[0].reply, heard.choices[0].finish_reason) == ("Hi", "stop")


def test_the_end_that_we_asked_for_is_an_end_like_any_other_and_a_clients_own_is_named() -> None:
    read = ChatDocuments(stream=True, ends={9})
    assert read(chunk("", end="stop", stop_reason=9))["choices"][0]["stop_reason"] is None
    assert read(chunk("", end="stop", stop_reason=7))["choices"][0]["stop_reason"] == 7
    assert read(chunk("", end="stop", stop_reason="x"))["choices"][0]["stop_reason"] == "x"
    assert read(chunk("", end="stop", stop_reason=["x"]))["choices"][0]["stop_reason"] == ["x"]
    assert "stop_reason" not in read(chunk("a"))["choices"][0]


@pytest.mark.parametrize(
    "document",
    [
        {"error": {"message": "no"}},
        {"choices": "none"},
        {"choices": None},
        {},
    ],
)
def test_what_is_no_completion_stays_as_it_is(document: dict[str, Any]) -> None:
    assert ChatDocuments(stream=True)(document) == document


@pytest.mark.parametrize(
    "choice",
    [None, 7, {"index": 0}, {"index": 0, "text": 5}, {"index": [], "text": "a"}, {"index": None, "text": "a"}],
)
def test_a_choice_that_is_none_is_told_as_it_is(choice: Any) -> None:
    assert ChatDocuments(stream=True)({"choices": [choice]})["choices"] == [choice]


def test_markers_are_broken_wherever_a_template_reads_and_nowhere_else() -> None:
    typed, broken = "a<|end|>b", "a<\u200d|end|>b"
    call = {"id": typed, "type": "function", "function": {"name": "f", "arguments": typed}}
    messages = [
        {"role": "system", "content": typed},
        {"role": "user", "content": [{"type": "text", "text": typed}, image()], "name": typed},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": typed, "tool_call_id": typed},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": typed}}]},
    ]
    read = without_markers(messages, ["<|end|>"])
    assert read == [
        {"role": "system", "content": broken},
        {"role": "user", "content": [{"type": "text", "text": broken}, image()], "name": broken},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call | {"function": {"name": "f", "arguments": broken}}],
        },
        {"role": "tool", "content": broken, "tool_call_id": typed},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": typed}}]},
    ]
    assert messages[0]["content"] == typed, "what was sent stays as it was, for the log"
