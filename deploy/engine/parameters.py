"""What the local engine can do of a chat request: OpenAI's fields in, Sampling out, or Unsupported that names the field.

What would change the reply and can't be had is refused; what would not is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.engine.port import Sampling, Unsupported
from feedback.records import Message

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


def sampling_of(body: Mapping[str, Any], most: int) -> Sampling:
    """How the reply is to be sampled; it is at most `most` tokens long."""
    for name, value in body.items():
        if name in _ONLY:
            if value is not None and not any(value == allowed for allowed in _ONLY[name]):
                raise Unsupported(f"{name} is not supported by this service", name, "unsupported_parameter")
        elif name not in _TAKEN and name not in _IGNORED:
            shown = name[:60].encode("ascii", "replace").decode()
            raise Unsupported(f"there is no parameter {shown!r}", shown, "unknown_parameter")
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


def check_messages(messages: Sequence[Message]) -> None:
    """Raises Unsupported where a message holds what is no text."""
    for number, message in enumerate(messages):
        content = message.get("content")
        for place, part in enumerate(content if isinstance(content, list) else ()):
            _check_part(part, f"messages[{number}].content[{place}]")


def _check_part(part: Any, param: str) -> None:
    if not isinstance(part, dict) or part.get("type") not in ("text", "refusal"):
        raise Unsupported(
            f"{param} must be a part of type text: this service reads nothing else", param, "unsupported_content"
        )
    if not isinstance(part.get(part["type"]), str):
        raise Unsupported(f"{param}.{part['type']} must be a string", param, "invalid_type")


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise Unsupported(f"stop must be a string or a list of at most {MAX_STOPS} strings, none of them empty", "stop")
    return tuple(stops)


def _number(body: Mapping[str, Any], name: str, most: float) -> float:
    value = body.get(name)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise Unsupported(f"{name} must be a number from 0 to {most:g}", name)
    return float(value)


def _whole(body: Mapping[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise Unsupported(f"{name} must be a whole number from {least} to {2**63 - 1}", name)
    return value
