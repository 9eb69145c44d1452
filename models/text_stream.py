"""From tokens to pieces of text that may be shown: whole characters only, and never any part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from models.chat import Chat

_UNFINISHED = "\ufffd"


class TextStream:
    """Takes a reply's tokens one by one."""

    def __init__(self, chat: Chat, stop: Sequence[str] = ()) -> None:
        self.chat, self.stop = chat, tuple(text for text in stop if text)
        self.end_ids = chat.end_ids
        self.stopped = False
        """A stop string has been reached; what follows is not shown."""
        self._ids: list[int] = []
        self._text = ""
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that `token` makes certain."""
        if self.stopped:
            return ""
        self._ids.append(token)
        text = self.chat.decode(self._ids)
        if text.endswith(_UNFINISHED):  # the bytes of a character that the next token may finish
            return ""
        self._text = text
        return self._show(held_back=True)

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character are dropped."""
        if self.stopped:
            return ""
        self._text = self.chat.decode(self._ids).rstrip(_UNFINISHED)
        return self._show(held_back=False)

    def _show(self, held_back: bool) -> str:
        cut = min((at for stop in self.stop if (at := self._text.find(stop, max(0, self._shown))) >= 0), default=None)
        if cut is not None:
            self.stopped = True
            end = cut
        else:
            end = len(self._text) - (_overlap(self._text, self.stop) if held_back else 0)
        piece = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece


def _overlap(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that a stop string begins with."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stops)), 0)
