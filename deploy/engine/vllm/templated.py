"""Plain text as token ids: a chat request becomes a completion of ids that our own template made, and the answer a chat again.

What was trained is what is served, and no text can forge a marker. What our template does not know (tools, images, formats,
parameters of the chat endpoint alone) stays a chat: there the engine's template is at work, and typed markers are broken.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deploy.engine.port import ChatRequest
from feedback.records import Message
from models.cutting import prompt_room
from models.markers import break_markers

_SAME = {"stream", "stream_options", "n", "temperature", "top_p", "seed", "stop", "frequency_penalty"}
_SAME |= {"presence_penalty", "logit_bias", "user", "top_k", "min_p", "repetition_penalty", "length_penalty"}
_SAME |= {"stop_token_ids", "ignore_eos", "min_tokens", "include_stop_str_in_output", "skip_special_tokens"}
_SAME |= {"spaces_between_special_tokens", "bad_words", "allowed_token_ids", "priority", "cache_salt"}
"""Mean the same to both endpoints."""

_DROPPED = {"model", "messages", "max_tokens", "max_completion_tokens", "parallel_tool_calls", "store", "metadata"}
_DROPPED |= {"safety_identifier", "service_tier", "prompt_cache_key", "prompt_cache_retention"}
"""Put in anew, or without effect on a reply in text."""

_NOTHING: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Of which these values ask for nothing."""

_SPOKEN = {"role", "content", "name"}
_ROLES = {"system", "developer", "user", "assistant"}
_TEXTS = {"content", "text", "name", "arguments", "refusal", "reasoning", "reasoning_content"}
"""Where a template finds what somebody wrote; a URL, an id or data is no place for markers."""


def is_plain(request: ChatRequest) -> bool:
    """Whether our own template can say all of it: text, and parameters that mean the same without a chat."""
    asked = {name: value for name, value in request.body.items() if value is not None}
    limits = [asked[name] for name in ("max_tokens", "max_completion_tokens") if name in asked]
    return (
        all(name in _SAME or name in _DROPPED or value in _NOTHING.get(name, ()) for name, value in asked.items())
        and all(type(limit) is int and limit > 0 for limit in limits)
        and all(type(number) is int for number in _listed(asked.get("stop_token_ids", [])))
        and all(_is_text(message) for message in request.messages)
    )


def reply_tokens(body: Mapping[str, Any]) -> int | None:
    """How long the reply may be at most, as the client says."""
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens"))
    return next((limit for limit in limits if limit is not None), None)


def prompt_tokens(body: Mapping[str, Any], context: int) -> int:
    """How long the prompt may be in this context: there is room for the reply, or a quarter of the context."""
    return prompt_room(context, reply_tokens(body) or context)


def completion(
    body: Mapping[str, Any], prompt: Sequence[int], context: int, longest: int | None, ends: Collection[int]
) -> dict[str, Any]:
    """The body of the completion. `longest`: of a reply where the client does not say; `ends`: ids that end a turn."""
    same = {name: value for name, value in body.items() if name in _SAME and value is not None}
    limit = reply_tokens(body)
    if limit is None:  # the completion endpoint would take 16
        limit = max(1, context - len(prompt))
        limit = limit if longest is None else min(limit, longest)
    if ends and not same.get("ignore_eos"):
        same["stop_token_ids"] = [*dict.fromkeys([*same.get("stop_token_ids", ()), *sorted(ends)])]
    return same | {"prompt": list(prompt), "max_tokens": limit}


class ChatDocuments:
    """Reads one answer: a completion's documents as a chat's. `ends` are ids that the client has not asked to stop at."""

    def __init__(self, *, stream: bool, ends: Collection[int] = ()) -> None:
        self._stream, self._ends = stream, ends
        self._begun = set[int]()

    def __call__(self, document: dict[str, Any]) -> dict[str, Any]:
        """What does not look like a completion's stays as it is."""
        if not isinstance(choices := document.get("choices"), list):
            return document
        kind = "chat.completion.chunk" if self._stream else "chat.completion"
        read = document | {"object": kind, "choices": [self._choice(choice) for choice in choices]}
        if isinstance(named := document.get("id"), str):
            read["id"] = f"chat{named}"
        return read

    def _choice(self, choice: Any) -> Any:
        match choice:
            case {"index": int(index), "text": str(text), **rest}:
                told = {"index": index, **self._said(index, text), "logprobs": None}
                told["finish_reason"] = rest.get("finish_reason")
                return told | self._stopped(rest)
        return choice

    def _stopped(self, choice: Mapping[Any, Any]) -> dict[str, Any]:
        """What vLLM says that it stopped at; what ends every turn of a chat it does not name there."""
        if "stop_reason" not in choice:
            return {}
        stop = choice["stop_reason"]
        return {"stop_reason": None if isinstance(stop, int) and stop in self._ends else stop}

    def _said(self, index: int, text: str) -> dict[str, Any]:
        if not self._stream:
            return {"message": {"role": "assistant", "content": text, "refusal": None}}
        first = index not in self._begun
        self._begun.add(index)
        return {"delta": ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})}


def without_markers(messages: Sequence[Message], markers: Sequence[str]) -> list[Message]:
    """The same messages, in whose texts no marker is one any more (models.markers)."""
    return [{name: _broken(name, value, markers) for name, value in message.items()} for message in messages]


def _broken(name: str, value: Any, markers: Sequence[str]) -> Any:
    match value:
        case str():
            return break_markers(value, markers) if name in _TEXTS else value
        case dict():
            return {inner: _broken(inner, item, markers) for inner, item in value.items()}
        case list():
            return [_broken(name, item, markers) for item in value]
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text(message: Message) -> bool:
    content, role = message.get("content"), message.get("role")
    parts = content if isinstance(content, list) else []
    return (
        role in _ROLES
        and (content is None or isinstance(content, str | list))
        and all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts)
        and not any(value for name, value in message.items() if name not in _SPOKEN)
    )
