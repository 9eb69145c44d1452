"""What became of every line of a replay, counted from the facts and the dead letters themselves.

Others may send meanwhile, even the same events. So what a replay sends is marked, and its places on the log are read back:
eight bytes for each line, whatever there is of facts.
"""

from __future__ import annotations

import secrets
from array import array
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from deploy.errors import Failed
from feedback.facts.reader import Facts
from feedback.facts.tables import TABLE_OF_TOPIC
from feedback.intake.contract import REPLACED
from feedback.intake.edge import Record
from feedback.records import RatingKind
from feedback.topics import DEAD_LETTERS, EVENTS, RATINGS, TURNS
from streams import dead_letters
from streams.log import TP, Log, Stored, scan

RUN_HEADER = "trimtab-replay"
"""Names the replay that sent a record."""

KINDS: tuple[str, ...] = get_args(RatingKind)
_REPLACED = f'"{REPLACED}":'.encode()  # within a text its quotes would be escaped

Offsets = Mapping[int, np.ndarray[Any, np.dtype[np.int64]]]
"""Of one topic: by partition, ascending."""


class Intake(Struct, frozen=True):
    """What one run read, line by line. `events` = turns + ratings + duplicates + dead letters."""

    events: int
    turns: int
    ratings: dict[str, int]
    duplicates: int
    dead_letters: dict[str, int]
    replaced_surrogates: int = 0
    """How many of the events held halves of surrogate pairs, for which U+FFFD stands now."""


class Start(Struct, frozen=True):
    """Where a run begins, and the name that its records bear: take it before the first line is sent."""

    run: bytes
    ends: dict[TP, int]

    @classmethod
    def now(cls, log: Log) -> Start:
        return cls(secrets.token_hex(8).encode(), log.ends())

    def marked(self, record: Record) -> Record:
        """The record as one of this run."""
        return msgspec.structs.replace(record, headers=(*record.headers, (RUN_HEADER, self.run)))

    def sent(self, stored: Stored) -> bool:
        """Whether it is one of this run."""
        return (RUN_HEADER, self.run) in stored.headers

    def of(self, topic: str) -> dict[int, int]:
        """Where a topic's partitions ended."""
        return {partition: end for (name, partition), end in self.ends.items() if name == topic}


def intake(log: Log, facts: Facts, start: Start, read: int, known: Mapping[str, int] = MappingProxyType({})) -> Intake:
    """What became of the `read` lines that were sent since `start`; everything has to be done. `known`: lines that were not
    sent, for they have their dead letters already.

    Raises Failed when the sum is not what was read: an event that nobody can account for must never pass in silence.
    """
    found = {topic: _sent(log, topic, start) for topic in EVENTS}
    sent = {topic: offsets for topic, (offsets, _) in found.items()}
    turns, again = _new(facts, log, TURNS, sent[TURNS])
    ratings, too = _new(facts, log, RATINGS, sent[RATINGS])
    dead = _buried(log, start, sent) + Counter(known)
    accounted = turns.total() + ratings.total() + again + too + dead.total()
    if accounted != read:
        raise Failed(f"{read} events were read but {accounted} are accounted for: please report this, with the log")
    replaced = sum(events for _, events in found.values())
    return Intake(read, turns.total(), dict(sorted(ratings.items())), again + too, dict(sorted(dead.items())), replaced)


def _sent(log: Log, topic: str, start: Start) -> tuple[Offsets, int]:
    """The places of our records, and in how many something was replaced."""
    offsets: dict[int, array[int]] = {}
    replaced = 0
    for stored in scan(log, topic, start.of(topic)):
        if start.sent(stored):
            offsets.setdefault(stored.partition, array("q")).append(stored.offset)
            replaced += _REPLACED in stored.value
    return {partition: np.frombuffer(found, np.int64) for partition, found in offsets.items()}, replaced


def _new(facts: Facts, log: Log, topic: str, sent: Offsets) -> tuple[Counter[str], int]:
    """Events that nobody but us has sent, by kind, and how many facts of ours are not the first of their event."""
    identity, table = log.identity(topic), TABLE_OF_TOPIC[topic]
    columns = ["tenant", "event_id", "log", "partition", "offset", *(["record"] if topic == RATINGS else [])]
    rows = [_told(batch, _ours(batch, identity, sent)) for batch in facts.batches(table, columns)]
    if not rows:
        return Counter(), 0
    events = pa.concat_tables(rows).group_by(["tenant", "event_id"], use_threads=False)
    each = events.aggregate([("ours", "min"), ("ours", "sum"), ("kind", "min")])
    new = each.filter(pc.equal(each.column("ours_min"), 1))
    kinds = Counter(
        {KINDS[found["values"]]: found["counts"] for found in pc.value_counts(new.column("kind_min")).to_pylist()}
    )
    return kinds, (pc.sum(each.column("ours_sum")).as_py() or 0) - new.num_rows


def _ours(batch: pa.RecordBatch, identity: str, sent: Offsets) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows stand at one of our places."""
    of_log = pc.fill_null(pc.equal(batch.column("log"), identity), False).to_numpy(zero_copy_only=False)
    partitions, offsets = batch.column("partition").to_numpy(), batch.column("offset").to_numpy()
    ours = np.zeros(len(offsets), bool)
    for partition, places in sent.items():
        here = of_log & (partitions == partition)
        ours[here] = _among(places, offsets[here])
    return ours


def _among(places: Any, offsets: Any) -> Any:
    """Which offsets are among the places, which ascend and are not few."""
    at = np.searchsorted(places, offsets)
    return places[np.minimum(at, len(places) - 1)] == offsets


def _told(batch: pa.RecordBatch, ours: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Table:
    """Rows as event, whether it is ours, and the place of its kind in KINDS."""
    kinds = np.zeros(len(ours), np.int8)
    if "record" in batch.schema.names:
        for index in np.flatnonzero(ours):
            kinds[index] = KINDS.index(_decode_kind(batch.column("record")[int(index)].as_py()).kind)
    columns = {name: batch.column(name) for name in ("tenant", "event_id")}
    return pa.table({**columns, "ours": ours.astype(np.int8), "kind": kinds})


class _Kind(Struct):
    kind: RatingKind


_decode_kind = msgspec.json.Decoder(_Kind).decode


def _buried(log: Log, start: Start, sent: Mapping[str, Offsets]) -> Counter[str]:
    """Reasons of our dead letters: lines that never were events, and records that the worker put aside, each once."""
    reasons, seen = Counter[str](), set[tuple[str | None, int | None, int | None]]()
    for stored in scan(log, DEAD_LETTERS, start.of(DEAD_LETTERS)):
        letter = dead_letters.decode(stored)
        place = (letter.topic, letter.partition, letter.offset)
        places = sent.get(letter.topic or "", {}).get(-1 if letter.partition is None else letter.partition)
        if start.sent(stored) or (places is not None and place not in seen and _among(places, letter.offset)):
            seen.add(place)
            reasons[letter.reason] += 1
    return reasons
