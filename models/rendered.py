"""What of a snapshot the base's chat template can say at all; the rest is counted, and no training fails of it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from feedback.dataset.tables import ServedTurn
from feedback.records import Demonstration, Message, PreferencePair, UnpairedLabel
from models.chat import Chat
from models.errors import JobFailed, Unrenderable
from models.snapshot import SnapshotData

T = TypeVar("T", ServedTurn, PreferencePair, UnpairedLabel, Demonstration)


def rendered_only(data: SnapshotData, chat: Chat, max_length: int) -> tuple[SnapshotData, dict[str, int]]:
    """The snapshot without what can't be rendered, and how many rows of each table that were.

    Raises JobFailed where that is every row: then it is the template, and not a conversation, that is odd.
    """

    def said(rows: Sequence[T]) -> list[T]:
        return [row for row in rows if can_render(chat, row.prompt, max_length)]

    kept = replace(
        data,
        pairs=said(data.pairs),
        labels=said(data.labels),
        demonstrations=said(data.demonstrations),
        turns=said(data.turns),
    )
    tables = ("pairs", "labels", "demonstrations", "turns")
    lost = {name: len(getattr(data, name)) - len(getattr(kept, name)) for name in tables}
    if any(lost.values()) and not any(getattr(kept, name) for name in tables):
        raise JobFailed(
            "the base model's chat template takes none of the snapshot's conversations: correct its chat_template, or choose "
            "another base"
        )
    return kept, lost


def can_render(chat: Chat, prompt: Sequence[Message], max_length: int) -> bool:
    """Whether the template takes this context, and what is left of it at this length and at shorter ones."""
    room = max_length
    try:
        chat.needed(prompt, room)
        while room > 0:
            chat.prompt(prompt, room)
            room //= 2
    except Unrenderable:
        return False
    return True
