"""Builds small sealed snapshots for tests: a support bot that must copy an order number, rated by fussy customers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from feedback.dataset import snapshot, tables
from feedback.dataset.tables import Record, ServedTurn, TableName
from feedback.records import Demonstration, Message, PreferencePair, Provenance, Split, UnpairedLabel

_QUESTIONS = ("Where is order {n}?", "Please cancel order {n}.", "Order {n} arrived broken.", "Can I change order {n}?")
_GOOD = "I have looked up order {n} and will help you with it right away."
_BAD = "No idea, ask someone else about that please."


SPLITS: tuple[Split, ...] = ("train", "train", "train", "calibrate", "gate")


def said(text: str) -> list[Message]:
    """A context of one user message."""
    return [{"role": "user", "content": text}]


def common(number: int, split: Split, locale: str | None = "en") -> dict[str, Any]:
    """What every label of exchange `number` has."""
    return {
        "split": split,
        "weight": 1.0,
        "tenant": "default",
        "conversation_id": f"c-{number:04d}",
        "turn_id": f"t-{number:04d}",
        "locale": locale,
        "provenance": Provenance(source="user", event_ids=(f"e-{number:04d}",), at_us=number),
    }


def turn(number: int, split: Split, prompt: list[Message], reply: str, locale: str | None = "en") -> ServedTurn:
    """Exchange `number` as served."""
    return ServedTurn(
        turn_id=f"t-{number:04d}",
        conversation_id=f"c-{number:04d}",
        tenant="default",
        split=split,
        prompt=prompt,
        reply=reply,
        locale=locale,
        policy="base",
        occurred_at_us=number,
    )


def thumb(number: int, split: Split, prompt: list[Message], reply: str, up: bool) -> UnpairedLabel:
    """A thumb on exchange `number`."""
    labelled = common(number, split)
    return UnpairedLabel(
        id=f"thumb-{number:04d}", prompt=prompt, reply=reply, kind="thumbs", desirable=float(up), **labelled
    )


def pair(number: int, split: Split, prompt: list[Message], chosen: str, rejected: str) -> PreferencePair:
    """A pick between two replies to exchange `number`."""
    labelled = common(number, split)
    return PreferencePair(
        id=f"pair-{number:04d}", prompt=prompt, chosen=chosen, rejected=rejected, how="pick", preference=1.0, **labelled
    )


def support_log(conversations: int, seed: int = 0) -> list[Record]:
    """Thumbs on every exchange, pairs on half, demonstrations on a tenth; two thirds of the replies are good."""
    chance = random.Random(seed)
    records: list[Record] = []
    for number in range(conversations):
        split, order = SPLITS[number % 5], chance.randrange(10, 100)
        prompt = said(chance.choice(_QUESTIONS).format(n=order))
        good = _GOOD.format(n=order)
        is_good = chance.random() < 0.67
        reply = good if is_good else _BAD
        records += [turn(number, split, prompt, reply), thumb(number, split, prompt, reply, is_good)]
        if number % 2 == 0:
            records.append(pair(number, split, prompt, good, _BAD))
        if number % 10 == 0:
            labelled = common(number, split)
            records.append(Demonstration(id=f"demo-{number:04d}", prompt=prompt, reply=good, **labelled))
    return records


def seal(path: Path, records: Sequence[Record]) -> Path:
    """Write the records as a sealed snapshot directory at `path`, as feedback.dataset.snapshot would."""
    path.mkdir(parents=True)
    rows: dict[TableName, list[tables.Row]] = {
        name: tables.sorted_rows(record for record in records if isinstance(record, kind))
        for name, kind in tables.RECORD.items()
    }
    for name, found in rows.items():
        tables.write(path / f"{name}.parquet", name, found)
    manifest = snapshot.Manifest(
        format=snapshot.FORMAT,
        name=path.name,
        dataset_hash=tables.hash_of(rows, 1, snapshot.RULES_VERSION),
        as_of_us=1,
        rules_version=snapshot.RULES_VERSION,
        window={},
        counts=_no_counts(),
        rows={name: len(found) for name, found in rows.items()},
    )
    (path / snapshot.MANIFEST).write_bytes(msgspec.json.encode(manifest))
    (path / snapshot.MARKER).write_text(hashlib.sha256((path / snapshot.MANIFEST).read_bytes()).hexdigest() + "\n")
    return path


def _no_counts() -> snapshot.Counts:
    fields = msgspec.structs.fields(snapshot.Counts)
    return msgspec.convert({f.name: 0 if f.type is int else {} for f in fields if f.required}, snapshot.Counts)
