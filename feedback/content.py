"""What of a turn is text that can be learned from, and why the rest is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from feedback.records import Message, Turn

TEXT_ROLES = frozenset({"system", "developer", "user", "assistant"})


UNREDACTABLE = "unredactable"
"""In the `extra` of a turn that was served but could not be redacted in time: it is kept without its texts."""


class Text(Struct, frozen=True):
    """What is learned from a turn: the reply and the plain messages that it answers."""

    prompt: list[Message]
    reply: str


def text_of(message: str | Message) -> str | None:
    """The text of a reply or message; None where it is, even in part, something else (images, tool calls, refusals)."""
    if isinstance(message, str):
        return message
    content: Any = message.get("content")
    if len(message) == 2 and isinstance(content, str):  # by far most messages: role and content
        return content
    if any(message.get(key) for key in ("tool_calls", "function_call", "audio", "refusal")):
        return None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        text = part.get("text") if part.get("type") == "text" else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def prompt_of(messages: Iterable[Message]) -> list[Message] | None:
    """The messages as plain `{"role", "content"}` with text content; None where one is no text or a tool speaks."""
    prompt: list[Message] = []
    for message in messages:
        text = text_of(message)
        if text is None or message.get("role") not in TEXT_ROLES:
            return None
        prompt.append({"role": message["role"], "content": text})
    return prompt


def is_unredactable(turn: Turn) -> bool:
    """Whether its texts are not there because they could not be redacted."""
    return UNREDACTABLE in turn.extra


def untrainable(turn: Turn) -> str | None:
    """Why nothing may be learned from a turn, as a reason code; None where it may."""
    if turn.extra and is_unredactable(turn):
        return UNREDACTABLE
    if not turn.train:
        return "train_false"
    if turn.outcome != "ok":
        return f"outcome_{turn.outcome}"
    if turn.truncated:
        return "truncated"
    reply = text_of(turn.reply)
    if reply is None:
        return "reply_not_text"
    if not reply.strip():
        return "reply_empty"
    asked = False
    for message in turn.messages:
        text, role = message.get("content"), message.get("role")
        if len(message) != 2 or type(text) is not str:  # hardly ever: ask the long way
            text = text_of(message)
        if text is None or role not in TEXT_ROLES:
            return "prompt_not_text"
        asked = asked or (role == "user" and not text.isspace() and text != "")
    return None if asked else "prompt_empty"


def trainable_text(turn: Turn) -> Text:
    """The text of a turn that is trainable; raises ValueError for one that is not (ask `untrainable` first)."""
    prompt, reply = prompt_of(turn.messages), text_of(turn.reply)
    if prompt is None or reply is None:
        raise ValueError(f"turn {turn.turn_id} is not trainable: {untrainable(turn)}")
    return Text(prompt, reply)
