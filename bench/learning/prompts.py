"""Prompts of the sample log that name one order number, split by customer into those that train and those held out."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.dataset.tables import ServedTurn
from feedback.splits import bucket, split_of

LOG = Path(__file__).parents[2] / "examples" / "support.jsonl.gz"
_NUMBER = re.compile(r"K-\d+")


@dataclass(frozen=True)
class Prompt:
    """A served turn, and the order number that its last message names."""

    turn: ServedTurn
    number: str

    @property
    def language(self) -> str:
        return (self.turn.locale or "en")[:2]


def read_turns(log: Path = LOG) -> list[ServedTurn]:
    """The turns of a log that are plain text and were served whole, each event once."""
    turns: dict[str, ServedTurn] = {}
    with gzip.open(log, "rt", encoding="utf-8") as lines:
        for event in _events(lines):
            if (turn := _turn(event)) is not None:
                turns.setdefault(turn.turn_id, turn)
    return list(turns.values())


def choose(
    turns: Sequence[ServedTurn], languages: Sequence[str] | None, train: int, held_out: int
) -> tuple[list[Prompt], list[Prompt]]:
    """So many prompts to train on, and so many of other customers; no prompt twice, by a hash of the turn's id."""
    chosen: dict[str, list[Prompt]] = {"train": [], "gate": []}
    most = {"train": train, "gate": held_out}
    seen = set[str]()
    for turn in sorted(turns, key=lambda turn: hashlib.sha256(turn.turn_id.encode()).digest()):
        last = str(turn.prompt[-1]["content"])
        numbers = set(_NUMBER.findall(last))
        fits = len(numbers) == 1 and turn.split in chosen and last not in seen
        found = Prompt(turn, numbers.pop()) if fits else None
        if found and (languages is None or found.language in languages) and len(chosen[turn.split]) < most[turn.split]:
            seen.add(last)
            chosen[turn.split].append(found)
    return chosen["train"], chosen["gate"]


def _events(lines: Iterator[str] | Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _turn(event: dict[str, Any]) -> ServedTurn | None:
    messages, reply = event.get("messages"), event.get("reply")
    if event.get("event") != "turn" or event.get("outcome", "ok") != "ok" or not event.get("policy"):
        return None
    if not (isinstance(messages, list) and messages and isinstance(reply, str) and reply.strip()):
        return None
    if not all(isinstance(message.get("content"), str) for message in messages):
        return None
    return ServedTurn(
        turn_id=event["turn_id"],
        conversation_id=event["conversation_id"],
        tenant="default",
        split=split_of(bucket(event.get("user_id") or event["conversation_id"], "default")),
        prompt=[{"role": message["role"], "content": message["content"]} for message in messages],
        reply=reply,
        locale=event.get("locale"),
        policy=event["policy"],
        occurred_at_us=0,
    )
