"""What of a snapshot can't be rendered is counted and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from feedback.dataset.tables import ServedTurn
from feedback.records import Demonstration, PreferencePair, UnpairedLabel
from models.chat import Chat
from models.errors import JobFailed
from models.rendered import can_render, rendered_only
from models.snapshot import SnapshotData
from tests.models.snapshots import support_log
from tests.models.templates import FAMILIES, PICKY, chat_of

LONG = [role for _ in range(15) for role in ("user", "assistant")] + ["user"]
CASES = {
    "two user turns in a row": ["user", "user"],
    "a system message": ["system", "user"],
    "a system message in the middle": ["user", "assistant", "system", "user"],
    "a long alternating chat": LONG,
}


def talk(*roles: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": f"Is order {number} late?"} for number, role in enumerate(roles)]


def data_of(prompt: list[dict[str, Any]]) -> SnapshotData:
    """A snapshot in which the first row of each table has that prompt."""
    records = support_log(40)

    def of(kind: Any) -> Any:
        rows = [record for record in records if isinstance(record, kind)]
        return [replace(rows[0], prompt=prompt), *rows[1:]]

    kinds = (PreferencePair, UnpairedLabel, Demonstration, ServedTurn)
    return SnapshotData("s", "sha256:0", *map(of, kinds))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_say_every_case(family: str, chat: Chat, tmp_path: Path) -> None:
    spoken = chat_of(tmp_path, chat.tokenizer, FAMILIES[family])
    assert [name for name, roles in CASES.items() if not can_render(spoken, talk(*roles), 96)] == []


def test_one_conversation_that_the_template_refuses_is_counted_and_the_others_stay(chat: Chat, tmp_path: Path) -> None:
    data = data_of(talk("user", "assistant"))
    kept, lost = rendered_only(data, chat_of(tmp_path, chat.tokenizer, PICKY), 96)
    assert lost == {"pairs": 1, "labels": 1, "demonstrations": 1, "turns": 1}
    assert kept.pairs == data.pairs[1:]
    assert kept.turns == data.turns[1:]
    assert rendered_only(kept, chat_of(tmp_path, chat.tokenizer, PICKY), 96)[1] == dict.fromkeys(lost, 0)


def test_a_template_that_takes_none_of_them_fails_the_training_in_one_sentence(chat: Chat, tmp_path: Path) -> None:
    data = data_of(talk("user", "assistant"))
    only = replace(
        data, pairs=data.pairs[:1], labels=data.labels[:1], demonstrations=data.demonstrations[:1], turns=data.turns[:1]
    )
    with pytest.raises(JobFailed, match="takes none of the snapshot's conversations"):
        rendered_only(only, chat_of(tmp_path, chat.tokenizer, PICKY), 96)
