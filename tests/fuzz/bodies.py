"""Bodies as nobody should send them: valid ones with a few things wrong, and bytes of any kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from feedback.judge.rubric import load as load_rubric
from tests.feedback.privacy.numbers import SAID

DEEP = "@@deep@@"
"""Stands for nesting that `json.dumps` would not write."""

MESSAGES = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Where is my order K-472?"}]
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"order": "K-472"}'}}],
}
PARTS = [
    {"type": "text", "text": "Look:"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]
TURN = {
    "event": "turn", "schema": 1, "event_id": "e-1", "conversation_id": "c-1", "occurred_at": "2026-11-01T12:00:00+01:00",
    "tenant": "default", "user_id": "ada", "locale": "de-AT", "tags": {"channel": "web"}, "turn_id": "t-1",
    "messages": MESSAGES, "reply": "On its way.", "policy": "base", "replaces": "t-0", "outcome": "ok",
    "finish_reason": "stop", "usage": {"prompt_tokens": 5, "completion_tokens": 3, "latency_ms": 12.5}, "train": True,
    "base": "b", "rollout": {"id": "r", "arm": "candidate", "share": 0.5},
}  # fmt: skip
TOOLED = TURN | {
    "messages": [*MESSAGES, CALLED, {"role": "tool", "tool_call_id": "c1", "content": "sent"}],
    "reply": CALLED,
}
SHOWN = TURN | {"messages": [{"role": "user", "content": PARTS}], "occurred_at": 1_790_000_000.5}
RATING = {
    "event": "rating", "event_id": "e-2", "conversation_id": "c-1", "occurred_at": 1_790_000_000, "turn_id": "t-1",
    "source": "user", "kind": "thumbs", "value": True, "rubric": "helpful", "user_id": 7, "tags": {"n": 1},
}  # fmt: skip
KINDS: list[dict[str, Any]] = [
    {"kind": "stars", "value": 4},
    {"kind": "pick", "value": {"over": "t-0", "tie": False}},
    {"kind": "edit", "value": "It was sent on Monday."},
    {"kind": "comment", "value": "Call me: +43 660 1234567"},
    {"kind": "signal", "value": "copy", "source": "system"},
    {"kind": "score", "value": {"name": "csat", "value": 0.5}, "source": "system"},
    {"kind": "thumbs", "value": None, "source": "expert"},
]
EVENTS: list[dict[str, Any]] = [TURN, TOOLED, SHOWN, RATING, *(RATING | kind for kind in KINDS)]
SERVED = "a-turn-that-was-served"
"""Stands for the id of one."""
FEEDBACK: list[dict[str, Any]] = [
    which | kind
    for kind in ({"kind": "thumbs", "value": True}, *KINDS)
    for which in (
        {"turn_id": SERVED, "choice": 0},
        {"turn_id": "t-1", "conversation_id": "c-1", "user_id": "ada", "tags": {}},
    )
]
FEEDBACK += [one | {"comment": "It came late.", "locale": "en", "rubric": "helpful"} for one in FEEDBACK[:2]]
LABELS: list[dict[str, Any]] = [
    {"id": "0f3a51c09d8e4b7f9c6a2d1e5b8f7a30", "answer": answer, "reason": "It answers."}
    for answer in ("first", "second", "tie", "skip")
]
CHATS: list[dict[str, Any]] = [
    {"model": "trimtab", "messages": MESSAGES},
    {
        "model": "trimtab", "messages": [*MESSAGES, CALLED, {"role": "tool", "tool_call_id": "c1", "content": "sent"}],
        "stream": True, "stream_options": {"include_usage": True}, "n": 2, "max_tokens": 8, "temperature": 0.5, "top_p": 1,
        "seed": 3, "stop": ["x"], "user": "ada", "metadata": {"conversation_id": "c-1", "locale": "en", "tag.a": "b"},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}], "logit_bias": {"5": 1},
    },
    {
        "model": "trimtab", "messages": [{"role": "user", "content": PARTS}], "response_format": {"type": "json_object"},
        "safety_identifier": "u", "logprobs": True, "top_logprobs": 2, "max_completion_tokens": 5, "store": True,
    },
]  # fmt: skip
SCORES: list[dict[str, Any]] = [
    {"scores": {item.name: 4 for item in load_rubric().items}, "confidence": 0.9, "rationale": "as told"},
    {"winner": "1", "confidence": 0.8, "rationale": "the better one"},
]

_NUMBERS = [0, -1, 1 << 31, 1 << 63, 1 << 64, 10**400, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -0.0, 0.1]
_TEXTS = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud83d",
    "x\udc00y",
    "\ufeff",
    "\u202e",
    "😀" * 50,
    "\u2028",
    "\ue0000\ue001",
    DEEP,
]
_TEXTS += [
    "null",
    "{}",
    "x" * 70_000,
    "Ä" * 9_000,
    "9999-12-31T23:59:59+23:59",
    "0000-00-00",
    "2026-02-30T00:00:00Z",
    "１２",
]
_TEXTS += [
    "__class__",
    "../../x",
    "<|end|>",
    "a" * 300 + "@" + "b" * 300,
    "-" * 5_000,
    "1 " * 3_000,
    "'; --",
    "%s%n{0}",
]
_OTHERS = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": ""},
    {"a" * 100_000: 1},
    {"\ud83d": "\ud83d"},
    ["x"] * 2_000,
]
NASTY: st.SearchStrategy[Any] = (
    st.sampled_from([*_NUMBERS, *_TEXTS, *_OTHERS]) | st.text(max_size=30) | st.integers() | SAID
)


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[dict[str, Any]], most: int = 4) -> Any:
    """One of these documents with up to so many things wrong: at times with none."""
    document: Any = deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, most))):
        holder = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and holder[key] and draw(st.booleans()):
                holder = holder[key]
                continue
            _change(draw, holder, key)
            break
    return document


def _change(draw: st.DrawFn, holder: Any, key: Any) -> None:
    match draw(st.sampled_from(["drop", "retype", "retype", "rename", "wrap", "repeat"])):
        case "drop":
            del holder[key]
        case "retype":
            holder[key] = deepcopy(draw(NASTY))
        case "rename" if isinstance(holder, dict):
            name = draw(st.sampled_from([text for text in _TEXTS if len(text) < 10_000]) | st.text(max_size=10))
            holder[name] = holder.pop(key)
        case "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"value": holder[key]}]))
        case _ if isinstance(holder, list):
            holder.append(deepcopy(holder[key]))


@st.composite
def written(draw: st.DrawFn, document: Any) -> bytes:
    """A document as bytes, in one line; seldom as JSON should be written."""
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    if DEEP in text:
        depth = draw(st.sampled_from([5, 60, 500, 3_000, 100_000]))
        text = text.replace(json.dumps(DEEP), "[" * depth + "]" * depth)
    if draw(st.integers(0, 9)) == 0 and isinstance(document, dict) and document:
        key = draw(st.sampled_from(list(document)))
        text = text[:-1] + f", {json.dumps(key)}: {json.dumps(draw(NASTY))}" + "}"
    encoding = draw(st.sampled_from(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-7", "cp500"]))
    raw = text.encode(encoding, "surrogatepass" if encoding.startswith("utf-") and encoding != "utf-7" else "replace")
    if draw(st.integers(0, 7)) == 0 and raw:
        at = draw(st.integers(0, len(raw) - 1))
        raw = draw(st.sampled_from([raw[:at], raw[:at] + draw(st.binary(max_size=4)) + raw[at + 1 :], raw + raw[at:]]))
    return raw


def body(valid: Sequence[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """The bytes of such a document, or any."""
    several = st.lists(mutated(valid), max_size=3)
    return st.one_of(*[mutated(valid).flatmap(written)] * 6, several.flatmap(written), st.binary(max_size=200))


def lines(valid: Sequence[dict[str, Any]], most: int = 8) -> st.SearchStrategy[bytes]:
    """Several such bodies under each other."""
    ends = st.sampled_from([b"\n"] * 8 + [b"\r\n", b"\n\n", b"\r", b""])
    return st.lists(st.tuples(body(valid), ends), min_size=1, max_size=most).map(
        lambda pairs: b"".join(map(b"".join, pairs))
    )
