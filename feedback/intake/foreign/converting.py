"""What all formats share: an event as a line, the account of what is lost, files of bounded size, and ids from content."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedback.intake import event_files
from feedback.intake.event_files import Line

MAX_FILE_BYTES = 512_000_000
FIRST_LINES = 5


class NotThis(Exception):
    """The file is something else than was said; the sentence says what it looks like, or what to pass."""


@dataclass
class Conversion:
    """One import: what the person passed, and what would be lost so far."""

    time: str | float | None = None
    """For what says no time itself."""
    policy: str = "imported"
    mapping: dict[str, str] = field(default_factory=dict)
    came: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def lose(self, reason: str, place: str) -> None:
        """Count something that does not come along."""
        self.lost[reason] += 1
        if len(first := self.first.setdefault(reason, [])) < FIRST_LINES:
            first.append(place)

    def event(self, number: int, **fields: Any) -> Line | None:
        """An event as a line; None, and counted, where no time is known."""
        fields["occurred_at"] = fields["occurred_at"] if fields.get("occurred_at") is not None else self.time
        if fields["occurred_at"] is None:
            self.lose("no time: pass --time, for example --time 2026-01-31T12:00:00Z", f"line {number}")
            return None
        said = {name: value for name, value in fields.items() if value is not None}
        said["event_id"] = said.get("event_id") or name_of("e", said)
        self.came[said["event"] if said["event"] == "turn" else said["kind"]] += 1
        return Line(number, json.dumps(said, ensure_ascii=True).encode())


def name_of(prefix: str, *parts: Any) -> str:
    """An id made of what it names."""
    said = json.dumps(parts, sort_keys=True, default=str).encode()
    return f"{prefix}-{hashlib.sha256(said).hexdigest()[:32]}"


def documents(path: Path, conversion: Conversion) -> Iterator[tuple[int, Any]]:
    """The JSON documents of a file, with the line (of an array: the position) of each; raises NotThis."""
    guess(path)
    with path.open("rb") as file:
        start = file.read(4_096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"[") or path.suffix == ".json":
        whole = load(path)
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)
        return
    for line in event_files.lines(path):
        if line.rejected is not None:
            conversion.lose(line.rejected.message, f"line {line.number}")
            continue
        try:
            yield line.number, json.loads(line.raw.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError):
            conversion.lose("no valid JSON", f"line {line.number}")


def load(path: Path) -> Any:
    """A file that is one JSON document; raises NotThis."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise NotThis(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes: export it in parts")
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise NotThis(f"{path.name} is no valid JSON: {str(error)[:200]}") from None


def guess(path: Path) -> None:
    """Raises NotThis for a file that is plainly something else."""
    with path.open("rb") as file:
        start = file.read(4)
    for magic, what in (
        (b"PK\x03\x04", "a zip: unpack it and name the file inside"),
        (b"PAR1", "parquet: write it as CSV or as JSON lines first"),
        (b"SQLi", "an SQLite database: export the chats as JSON first"),
    ):
        if start == magic:
            raise NotThis(f"{path.name} looks like {what}")


def looks_like(document: Any) -> str | None:
    """What a document of another shape seems to be, and what to do with it."""
    if not isinstance(document, dict):
        return None
    if document.get("event") in ("turn", "rating"):
        return "our own events: use `trimtab replay FILE`"
    if "conversations" in document:
        return "ShareGPT: turn `conversations` into `messages` (human is user, gpt is assistant), then --format openai"
    if "history" in document.get("chat", {}) if isinstance(document.get("chat"), dict) else False:
        return "Open WebUI's chats: use --format open-webui"
    if "snapshot" in document and "data" in document:
        return "Open WebUI's feedback: use --format open-webui"
    if "messages" in document or "choices" in document or "preferred_output" in document:
        return "OpenAI's chats: use --format openai"
    if "mapping" in document and "title" in document:
        return 'a ChatGPT export, which is not taken yet: write its chats as {"messages": […]} lines'
    return None
