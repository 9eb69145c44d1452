"""deploy/engine/vllm/answers.py: what stands behind vLLM's words."""

from __future__ import annotations

import json

import pytest

from deploy.engine.vllm import answers
from deploy.engine.vllm.answers import (
    AdapterRefused,
    FilesNotVisible,
    NotANumber,
    NotLoaded,
    NotUnderstood,
    ReplicaAway,
)

URL, NAME, PATH = "http://one:8000", "tt-0123456789abcdef", "/candidates/one/adapter"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"error":{"message":"The model `a` does\\nnot exist.","code":404}}', "The model `a` does not exist."),
        (b'{"error":"Unauthorized"}', "Unauthorized"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b"Internal Server Error", "Internal Server Error"),
        (b"", "no reason given"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'"' + b"a" * 1_000 + b'"', "a" * 300),
    ],
)
def test_a_reason_is_found_wherever_servers_put_it(body: bytes, why: str) -> None:
    assert answers.reason(body) == why


def test_a_model_without_a_path_is_listed_too() -> None:
    assert answers.models(b'{"data":[{"id":"base","root":null},{"id":"a","root":"/a"}]}') == {"base": "", "a": "/a"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":[{"root":"/a"}]}', b'{"data":[', b"\xff", b"[" * 5_000])
def test_what_is_no_list_of_models_is_none(body: bytes) -> None:
    assert answers.models(body) is None


def test_the_context_is_the_models_own_where_it_is_said() -> None:
    listed = b'{"data":[{"id":"other","max_model_len":9},{"id":"base","max_model_len":96},{"id":"a"}]}'
    assert answers.context(listed, "base") == 96
    assert answers.context(listed, "a") is None
    assert answers.context(listed, "gone") is None
    assert answers.context(b"<html>", "base") is None


def completion(tokens: list[str], logprobs: list[float | None], *indices: int) -> bytes:
    found = {"tokens": tokens, "token_logprobs": logprobs}
    return json.dumps({"choices": [{"index": index, "logprobs": found} for index in indices]}).encode()


def test_the_one_tokens_log_probability_is_read_for_each_prompt_in_their_order() -> None:
    assert answers.logprobs(completion(["token_id:7"], [-1.5], 0), 7, 1) == [-1.5]
    first, second = (json.loads(completion(["token_id:7"], [-1.0 - at], at))["choices"] for at in (0, 1))
    assert answers.logprobs(json.dumps({"choices": second + first}).encode(), 7, 2) == [-1.0, -2.0]


@pytest.mark.parametrize(
    "body",
    [
        completion(["token_id:8"], [-1.5], 0, 1),
        completion(["seven"], [-1.5], 0, 1),
        completion(["token_id:7"] * 2, [-1.5] * 2, 0),
        completion(["token_id:7"] * 2, [-1.5], 0, 1),
        completion(["token_id:7"], [-1.5] * 2, 0, 1),
        completion(["token_id:7"], [None], 0, 1),
        completion(["token_id:7"], [float("nan")], 0, 1),
        completion(["token_id:7"], [-1.5], 0),
        completion(["token_id:7"], [-1.5], 0, 1, 2),
        completion(["token_id:7"], [-1.5], 0, 0),
        completion(["token_id:7"], [-1.5]),
        b'{"choices":[{"index":0,"logprobs":null}]}',
    ],
)
def test_anything_but_the_numbers_that_were_asked_for_is_none(body: bytes) -> None:
    assert answers.logprobs(body, 7, 2) is None


@pytest.mark.parametrize(
    ("status", "why", "kind"),
    [
        (404, f"Loading lora {NAME} failed: No adapter found for {PATH}", FilesNotVisible),
        (404, f"Loading lora {NAME} failed: No adapter found for <path>", FilesNotVisible),  # as 0.32 hides it
        (
            500,
            "Call to add_lora method failed: Worker failed with error 'vLLM does not yet support DoRA.'",
            AdapterRefused,
        ),
        (400, "The lora adapter 'base' conflicts with a served base model.", AdapterRefused),
        (500, "Internal Server Error", ReplicaAway),
        (503, "no reason given", ReplicaAway),
        (404, "Not Found", NotUnderstood),
        (401, "Unauthorized", NotUnderstood),
        (302, "no reason given", NotUnderstood),
    ],
)
def test_what_a_refused_load_means(status: int, why: str, kind: type[Exception]) -> None:
    refusal = answers.load_refusal(URL, NAME, PATH, status, why)
    assert type(refusal) is kind
    assert URL in str(refusal)
    assert NAME in str(refusal)


@pytest.mark.parametrize(
    ("status", "why", "kind"),
    [
        (404, f"The model `{NAME}` does not exist. Valid aliases: base.", NotLoaded),
        (400, "Out of range float values are not JSON compliant", NotANumber),
        (500, "EngineCore encountered an issue.", ReplicaAway),
        (400, "This model's maximum context length is 96 tokens.", NotUnderstood),
        (200, "{}", NotUnderstood),
    ],
)
def test_what_a_refused_score_means(status: int, why: str, kind: type[Exception]) -> None:
    refusal = answers.score_refusal(URL, NAME, status, why)
    assert type(refusal) is kind
    assert NAME in str(refusal)


def test_only_an_adapters_absence_counts_as_unloaded() -> None:
    assert answers.unloaded_already(404, f"The lora adapter '{NAME}' cannot be found.")
    assert not answers.unloaded_already(404, "Not Found")
    assert not answers.unloaded_already(500, f"The lora adapter '{NAME}' cannot be found.")
