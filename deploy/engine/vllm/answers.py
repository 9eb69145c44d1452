"""What a vLLM server answers, read: models, log-probabilities, and what stands behind a refusal. Measured on vLLM 0.32."""

from __future__ import annotations

import math
from typing import Any

import msgspec

_REASON = 300
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HINTS = {
    401: "give it the key that the server was started with",
    403: "give it the key that the server was started with",
    404: "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and check the address",
}


class ReplicaAway(Exception):
    """It can't be reached, does not answer in time, or is broken: what was asked may have happened all the same."""


class FilesNotVisible(Exception):
    """The server sees no adapter under the path that it was given."""


class AdapterRefused(Exception):
    """The server has read the adapter and will not serve it; it goes on serving others."""


class NameTaken(Exception):
    """The server has another adapter of that name, from another path."""


class NotLoaded(Exception):
    """The server has no model of that name; what was loaded while it ran it forgets when it restarts."""


class NotANumber(Exception):
    """The model computes no numbers, and may have spoilt the server's cache for all others."""


class NotUnderstood(Exception):
    """The answer is none of a vLLM that is set up for adapters."""


class _Model(msgspec.Struct):
    id: str
    root: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Logprobs(msgspec.Struct):
    tokens: list[str]
    token_logprobs: list[float]


class _Choice(msgspec.Struct):
    index: int
    logprobs: _Logprobs


class _Completion(msgspec.Struct):
    choices: list[_Choice]


def models(body: bytes) -> dict[str, str] | None:
    """Where each model was loaded from, by its name; None where that is no list of models."""
    try:
        return {model.id: model.root or "" for model in msgspec.json.decode(body, type=_Models).data}
    except _UNREADABLE:
        return None


def context(body: bytes, model: str) -> int | None:
    """How many tokens of prompt and reply a model has room for; None where the list does not say."""
    try:
        cards = msgspec.json.decode(body, type=_Models).data
    except _UNREADABLE:
        return None
    return next((card.max_model_len for card in cards if card.id == model), None)


def logprobs(body: bytes, token: int, count: int) -> list[float] | None:
    """Log-probabilities of this one token, nats, in the order of the `count` prompts; None where they are not all there."""
    try:
        choices = sorted(msgspec.json.decode(body, type=_Completion).choices, key=lambda choice: choice.index)
    except _UNREADABLE:
        return None
    found = [choice.logprobs.token_logprobs[0] for choice in choices if len(choice.logprobs.token_logprobs) == 1]
    named = [(choice.index, choice.logprobs.tokens) for choice in choices]
    right = named == [(at, [f"token_id:{token}"]) for at in range(count)] and len(found) == count
    return found if right and all(map(math.isfinite, found)) else None


def reason(body: bytes) -> str:
    """Why the server refuses, as it says, on one line."""
    try:
        answer: Any = msgspec.json.decode(body)
    except _UNREADABLE:
        answer = body.decode(errors="replace")
    if isinstance(answer, dict):
        answer = answer.get("error", answer.get("detail", answer))
    if isinstance(answer, dict):
        answer = answer.get("message", answer)
    return " ".join(str(answer).split())[:_REASON] or "no reason given"


def loaded_already(status: int, why: str) -> bool:
    """Whether the name is in use, for whichever adapter."""
    return status == 400 and "already been loaded" in why


def unloaded_already(status: int, why: str) -> bool:
    """Whether there was nothing to unload."""
    return status == 404 and why.startswith("The lora adapter")


def load_refusal(url: str, name: str, path: str, status: int, why: str) -> Exception:
    """What it means that a load is answered so."""
    if status == 404 and "No adapter found for" in why:
        return FilesNotVisible(
            f"{url} sees no adapter {name} in {path}: have the candidates mounted there under that very path, readable"
        )
    if (status == 500 and "add_lora" in why) or status == 400:
        return AdapterRefused(f"{url} refuses adapter {name} in {path}: {why}")
    return refusal(url, f"load adapter {name}", status, why)


def score_refusal(url: str, model: str, status: int, why: str) -> Exception:
    """What it means that a question for a log-probability is answered so."""
    if status == 404 and "does not exist" in why:
        return NotLoaded(f"{url} has no model {model}, or no longer: load it again")
    if status == 400 and "Out of range float" in why:
        return NotANumber(
            f"{url} computes no numbers with {model}: unload it and restart that server, its cache may be spoilt for all"
        )
    return refusal(url, f"score a reply by {model}", status, why)


def refusal(url: str, asked: str, status: int, why: str) -> Exception:
    """What it means that anything else is answered so."""
    if status >= 500:
        return ReplicaAway(f"{url} was to {asked} and failed (status {status}: {why}): look at its log")
    hint = _HINTS.get(status, "check that the address is vLLM's, and its version")
    return NotUnderstood(f"{url} was to {asked} and answers with status {status} ({why}): {hint}")
