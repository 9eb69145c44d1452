"""What an answer's documents say, put together: for each choice its message and how it ended, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feedback.records import Message

_NAMES = frozenset({"role", "id", "type", "name", "index"})
"""Texts that come whole and may come again; every other text comes in pieces."""


@dataclass
class Choice:
    """One of the replies. `finish_reason` None: it has not ended."""

    message: Message = field(default_factory=dict)
    finish_reason: str | None = None

    @property
    def reply(self) -> str | Message:
        """As it is logged: text where it is nothing else."""
        content = self.message.get("content")
        more = any(value is not None for name, value in self.message.items() if name not in ("role", "content"))
        if not more and (content is None or isinstance(content, str)):
            return content or ""
        return {"role": "assistant"} | {name: value for name, value in self.message.items() if value is not None}


class Said:
    """Add documents as they come: chunks, or one completion."""

    def __init__(self) -> None:
        self.choices: dict[int, Choice] = {}
        self.usage: dict[str, Any] = {}

    def add(self, document: Mapping[str, Any]) -> None:
        """What does not have OpenAI's shape counts for nothing: it is told, and not understood."""
        if isinstance(usage := document.get("usage"), dict):
            self.usage = usage
        choices = document.get("choices")
        for told in choices if isinstance(choices, list) else ():
            if isinstance(told, dict) and isinstance(index := told.get("index", 0), int):
                choice = self.choices.setdefault(index, Choice())
                if isinstance(message := told.get("delta") or told.get("message"), dict):
                    merge(choice.message, message)
                if isinstance(finish_reason := told.get("finish_reason"), str):
                    choice.finish_reason = finish_reason

    def ended(self, n: int) -> bool:
        """Whether `n` choices have ended."""
        return sum(choice.finish_reason is not None for choice in self.choices.values()) >= n


def merge(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add a piece of a message to what there is of it, as OpenAI's clients do.

    >>> message = {"content": "Hel"}
    >>> merge(message, {"content": "lo"})
    >>> message
    {'content': 'Hello'}
    """
    for name, value in piece.items():
        known = whole.get(name)
        if isinstance(value, str) and isinstance(known, str) and name not in _NAMES:
            whole[name] = known + value
        elif isinstance(value, dict) and isinstance(known, dict):
            merge(known, value)
        elif isinstance(value, list):
            whole[name] = _merged(known if isinstance(known, list) else [], value)
        elif value is not None or known is None:
            whole[name] = dict(value) if isinstance(value, dict) else value


def _merged(known: list[Any], pieces: list[Any]) -> list[Any]:
    """Tool calls and their like: what has the same `index` is one thing, everything else is one more."""
    merged = list(known)
    for piece in pieces:
        index = piece.get("index") if isinstance(piece, dict) else None
        same = next((one for one in merged if isinstance(one, dict) and one.get("index") == index), None)
        if index is None or same is None:
            merged.append(dict(piece) if isinstance(piece, dict) else piece)
        else:
            merge(same, piece)
    return merged
