"""Whatever a file holds, an import ends in events, in an account of what is lost, or in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.intake.event_files import Line
from feedback.intake.foreign import csv_table, open_webui, openai_chats
from feedback.intake.foreign.converting import Conversion, NotThis

HERE = Path(__file__).parent
READERS = {"openai": openai_chats.read, "open-webui": open_webui.read, "csv": csv_table.read}
NAMES = [
    "messages", "role", "content", "request", "response", "body", "choices", "message", "input", "preferred_output", "metadata",
    "non_preferred_output", "chat", "history", "m1", "parentId", "childrenIds", "annotation", "rating", "data", "meta", "snapshot",
    "chat_id", "message_id", "sibling_model_ids", "timestamp", "model", "comment", "usage", "created",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*NAMES, "assistant", "user", "m1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=30,
)


def events(read: Callable[[Path, Conversion], Iterator[Line]], path: Path, **given: Any) -> list[dict[str, Any]]:
    return [json.loads(line.raw) for line in read(path, Conversion(time="2026-01-01T00:00:00Z", **given))]


@pytest.mark.parametrize("name", ["openai", "open-webui"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(document=JSON)
def test_no_document_breaks_an_import(tmp_path: Path, name: str, document: Any) -> None:
    path = tmp_path / "given.json"
    path.write_text(json.dumps([document]))
    with suppress(NotThis):
        events(READERS[name], path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(content=st.binary(max_size=80))
@pytest.mark.parametrize("name", READERS)
def test_no_bytes_break_an_import(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "given.csv"
    path.write_bytes(b"prompt,reply,rating\nhello,hi,1\n" + content if name == "csv" else content)
    with suppress(NotThis):
        events(READERS[name], path)
