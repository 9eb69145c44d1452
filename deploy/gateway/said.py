"""What an answer's documents say, put together: for each choice its message and how it ended, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
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
        said = {name: value for name, value in self.message.items() if value not in (None, []) and name != "role"}
        if isinstance(calls := said.get("tool_calls"), list):
            said["tool_calls"] = [_without_index(call) for call in calls]
        content = said.get("content", "")
        return content if not said.keys() - {"content"} and isinstance(content, str) else {"role": "assistant"} | said


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
    """Add a piece of a message to what there is of it, as OpenAI's clients do. The piece stays as it is.

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
            whole[name] = deepcopy(value) if isinstance(value, dict) else value


def _merged(known: list[Any], pieces: list[Any]) -> list[Any]:
    """Tool calls and their like: what has the same `index` is one thing, everything else is one more."""
    merged = list(known)
    for piece in pieces:
        index = piece.get("index") if isinstance(piece, dict) else None
        same = next((one for one in merged if isinstance(one, dict) and one.get("index") == index), None)
        if index is None or same is None:
            merged.append(deepcopy(piece))
        else:
            merge(same, piece)
    return merged


def _without_index(call: Any) -> Any:
    """A tool call as it stands in a message; only its pieces are numbered."""
    return {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call
