"""From tokens to pieces of text that may be shown: whole characters only, and never any part of a stop string.

What a token costs does not depend on how long the reply is: only the newest tokens are decoded, and a stop string is
looked for character by character (Knuth, Morris and Pratt, "Fast pattern matching in strings", 1977).
"""

from __future__ import annotations

from collections.abc import Sequence

from models.chat import Chat

_UNFINISHED = "\ufffd"
_MOST_UNFINISHED = 32  # tokens: no character takes as many, so most of what is no text by then never will be


class TextStream:
    """Takes a reply's tokens one by one."""

    def __init__(self, chat: Chat, stop: Sequence[str] = ()) -> None:
        self.chat = chat
        self.end_ids = chat.end_ids
        self.stopped = False
        """A stop string has been reached; what follows is not shown."""
        self._stops = [_Stop(text) for text in stop if text]
        self._before: list[int] = []
        """The newest tokens whose text is certain: how a token reads may depend on the one before it."""
        self._fresh: list[int] = []
        """The tokens after those."""
        self._broken = 0
        """Signs for bytes that are no character; they are shown once a character follows."""
        self._held = ""
        """Certain text that a stop string may begin with."""

    def push(self, token: int) -> str:
        """The text that `token` makes certain."""
        if self.stopped:
            return ""
        self._fresh.append(token)
        text = self._decode(self._fresh)
        if not text.endswith(_UNFINISHED):
            return self._take(len(self._fresh), text)
        if len(self._fresh) < _MOST_UNFINISHED:  # the bytes of a character that the next token may finish
            return ""
        cut = next((at for at in range(len(self._fresh) - 1, 0, -1) if self._parts(at, text)), len(self._fresh))
        return self._take(cut, self._decode(self._fresh[:cut]))

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character are dropped."""
        if self.stopped:
            return ""
        piece = self._show(self._decode(self._fresh).rstrip(_UNFINISHED))
        held, self._held, self._fresh = self._held, "", []
        return piece if self.stopped else piece + held

    def _decode(self, fresh: Sequence[int]) -> str:
        """The text of tokens that come right after those before."""
        return self.chat.decode([*self._before, *fresh])[len(self.chat.decode(self._before)) :]

    def _parts(self, at: int, text: str) -> bool:
        """Whether the fresh tokens read the same when those from `at` on are decoded by themselves."""
        return self._decode(self._fresh[:at]) + self.chat.decode(self._fresh[at:]) == text

    def _take(self, count: int, text: str) -> str:
        if text:  # else they are no text, as a special token is
            self._before = self._fresh[:count]
        self._fresh = self._fresh[count:]
        return self._show(text)

    def _show(self, text: str) -> str:
        whole = text.rstrip(_UNFINISHED)
        broken = len(text) - len(whole)
        if not whole:
            self._broken += broken
            return ""
        text, self._broken = self._broken * _UNFINISHED + whole, broken
        seen = self._held + text
        for at, character in enumerate(text, start=len(self._held) + 1):
            if found := [len(stop.text) for stop in self._stops if stop.completed_by(character)]:
                self.stopped = True
                return seen[: at - max(found)]
        shown = len(seen) - max((stop.matched for stop in self._stops), default=0)
        self._held = seen[shown:]
        return seen[:shown]


class _Stop:
    """A stop string, and how much of it the text ends with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._shorter = [0]
        """For each of its beginnings, by length less one: the longest shorter beginning that this one ends with."""
        for character in text[1:]:
            self._shorter.append(self._after(self._shorter[-1], character))

    def completed_by(self, character: str) -> bool:
        """Take the text's next character."""
        self.matched = self._after(self.matched, character)
        return self.matched == len(self.text)

    def _after(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._shorter[matched - 1]
        return matched + (self.text[matched] == character)
