"""What a chat request asks for, checked: OpenAI's fields in, a ChatRequest out, or a 400 that names the field.

Taken: model, messages, max_tokens, max_completion_tokens, temperature, top_p, stop, seed, stream, stream_options,
metadata, safety_identifier, user. What would change the reply and can't be had is refused; what would not is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.engine.port import Sampling
from deploy.web.errors import bad
from feedback.intake.contract import ROLES
from feedback.records import Message

MAX_MESSAGES = 2_000
MAX_STOPS = 4
COLDEST = 1e-4
"""Below this a temperature is zero: the likeliest token is as good as certain, and dividing by less overflows."""

_TAKEN = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "stream"}
_TAKEN |= {"stream_options", "metadata", "safety_identifier", "user"}
_IGNORED = {"store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
_IGNORED |= {"reasoning_effort", "verbosity", "prediction", "parallel_tool_calls"}
"""Say how to compute or bill, not what to answer."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    "web_search_options": (),
}
"""Fields of which only these values (and null) can be had."""


@dataclass(frozen=True)
class ChatRequest:
    """A chat request that can be answered."""

    model: str
    messages: list[Message]
    sampling: Sampling
    stream: bool
    include_usage: bool


def parse_chat(body: Mapping[str, Any], max_tokens: int) -> ChatRequest:
    """The request in a JSON object; replies are at most `max_tokens` long. Raises ApiError naming the field."""
    for name, value in body.items():
        if name in _ONLY:
            if value is not None and not any(value == allowed for allowed in _ONLY[name]):
                raise bad(f"{name} is not supported by this service", name, "unsupported_parameter")
        elif name not in _TAKEN and name not in _IGNORED:
            shown = name[:60].encode("ascii", "replace").decode()
            raise bad(f"there is no parameter {shown!r}", shown, "unknown_parameter")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad("model must be a string: GET /v1/models lists them", "model", "invalid_type")
    stream = _boolean(body, "stream")
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or not stream):
        raise bad("stream_options is an object and needs stream: true", "stream_options")
    return ChatRequest(
        model,
        _messages(body.get("messages")),
        _sampling(body, max_tokens),
        stream,
        _boolean(options or {}, "include_usage", "stream_options.include_usage"),
    )


def _sampling(body: Mapping[str, Any], most: int) -> Sampling:
    wanted = [_whole(body, name, 1) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((number for number in wanted if number is not None), most)
    temperature = _number(body, "temperature", 2.0)
    return Sampling(
        max_tokens=min(limit, most),
        temperature=temperature if temperature >= COLDEST else 0.0,
        top_p=max(_number(body, "top_p", 1.0), 1e-6),
        seed=_whole(body, "seed", -(2**63)),
        stop=_stops(body.get("stop")),
    )


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise bad("messages must be a list of at least one message", "messages", "invalid_type")
    if len(value) > MAX_MESSAGES:
        raise bad(f"{len(value)} messages; at most {MAX_MESSAGES} are taken", "messages")
    for place, message in enumerate(value):
        _check_message(message, f"messages[{place}]")
    return value


def _check_message(message: Any, param: str) -> None:
    if not isinstance(message, dict):
        raise bad(f"{param} must be an object", param, "invalid_type")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise bad(f"{param}.role must be one of {', '.join(sorted(ROLES))}", f"{param}.role")
    if isinstance(content, list):
        for place, part in enumerate(content):
            _check_part(part, f"{param}.content[{place}]")
    elif content is None:
        if role != "assistant":
            raise bad(f"{param}.content is missing", f"{param}.content", "missing_field")
    elif not isinstance(content, str):
        raise bad(f"{param}.content must be text or a list of parts", f"{param}.content", "invalid_type")


def _check_part(part: Any, param: str) -> None:
    if not isinstance(part, dict) or part.get("type") not in ("text", "refusal"):
        raise bad(f"{param} must be a part of type text: this service reads nothing else", param, "unsupported_content")
    if not isinstance(part.get(part["type"]), str):
        raise bad(f"{param}.{part['type']} must be a string", param, "invalid_type")


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise bad(f"stop must be a string or a list of at most {MAX_STOPS} strings, none of them empty", "stop")
    return tuple(stops)


def _boolean(body: Mapping[str, Any], name: str, param: str | None = None) -> bool:
    value, param = body.get(name), param or name
    if value is not None and not isinstance(value, bool):
        raise bad(f"{param} must be true or false", param, "invalid_type")
    return bool(value)


def _number(body: Mapping[str, Any], name: str, most: float) -> float:
    value = body.get(name)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise bad(f"{name} must be a number from 0 to {most:g}", name)
    return float(value)


def _whole(body: Mapping[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise bad(f"{name} must be a whole number from {least} to {2**63 - 1}", name)
    return value
