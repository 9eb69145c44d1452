"""The audit: is every record of the log exactly one fact, or a dead letter? Offset by offset, by the bytes' digests.

It reads the log as anybody may (on Kafka with a plain consumer) and the facts as tables; it uses nothing of the worker,
whose work it looks at. What is not applied yet waits and is no fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

import msgspec
import pyarrow.compute as pc

from feedback.facts.reader import Facts
from feedback.facts.tables import TABLE_OF_TOPIC, Batch, Row, TableName
from feedback.facts.writer import FactsWriter
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, content_hash
from feedback.records import Judgement, Rating, Turn, Unjudged, Verdict
from streams import dead_letters
from streams.log import Log, Stored, Unsigned, scan_partition

_decode_judgement = msgspec.json.Decoder(Verdict | Unjudged).decode


@dataclass
class Finding:
    """One partition of one topic: how many records, and the offsets at which something is wrong."""

    topic: str
    partition: int
    first: int = 0
    """The oldest offset that the log still has."""
    applied: int = 0
    """The offset up to which the facts have been written."""
    records: int = 0
    facts: int = 0
    dead_letters: int = 0
    waiting: int = 0
    """Records that are not applied yet."""
    missing: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    """The fact says other bytes than the log."""
    unknown: list[int] = field(default_factory=list)
    """Facts within the range that the log keeps, without a record there."""

    @property
    def good(self) -> bool:
        return not (self.missing or self.doubled or self.changed or self.unknown)


def audit(log: Log, facts: Facts) -> Iterator[Finding]:
    """Each partition of each topic that becomes facts, as far as the facts go now: what is done meanwhile is no fault."""
    with facts.pinned() as view:
        buried = _buried(log)  # read after the facts are pinned: a letter is written before its record counts as done
        partitions = log.topics()
        for topic, table in TABLE_OF_TOPIC.items():
            for partition in range(partitions.get(topic, 0)):
                kept = digests(view, table, log.identity(topic), partition)
                applied = view.applied(log.identity(topic), topic, partition)
                dead = buried.get((topic, partition), {})
                yield compare(topic, partition, records(log, topic, partition), kept, dead, applied)


def _buried(log: Log) -> dict[tuple[str | None, int | None], dict[int, str]]:
    """By topic and partition, the records of which there is a dead letter, by offset with their digests."""
    buried: dict[tuple[str | None, int | None], dict[int, str]] = {}
    for letter in chain(dead_letters.read(log), dead_letters.purged(log)):
        if letter.offset is not None:
            digest = letter.digest or _digest(letter.value)
            buried.setdefault((letter.topic, letter.partition), {})[letter.offset] = digest
    return buried


def compare(
    topic: str,
    partition: int,
    stored: Iterable[tuple[int, str]],
    kept: Mapping[int, Counter[str]],
    dead: Mapping[int, str],
    applied: int,
) -> Finding:
    """Records as (offset, digest), in order, against facts and dead letters, as digests by offset. Pure."""
    finding = Finding(topic, partition, applied=applied)
    seen: set[int] = set()
    for offset, digest in stored:
        if not finding.records:
            finding.first = offset
        finding.records += 1
        if offset >= applied:
            finding.waiting += 1
            continue
        seen.add(offset)
        found = kept.get(offset, Counter())
        finding.facts += found.total()
        put_aside = dead.get(offset) == digest
        finding.dead_letters += put_aside
        if not found and not put_aside:
            finding.missing.append(offset)
        elif found and not found[digest]:
            finding.changed.append(offset)
        elif found.total() > 1:
            finding.doubled.append(offset)
    if finding.records:
        finding.unknown = sorted(offset for offset in kept if offset >= finding.first and offset not in seen)
    return finding


def records(log: Log, topic: str, partition: int) -> Iterator[tuple[int, str]]:
    """Offset and digest of every record that the log still has."""
    for stored in scan_partition(log, topic, partition):
        yield stored.offset, _digest(stored.value)


def digests(facts: Facts, table: TableName, identity: str, partition: int) -> dict[int, Counter[str]]:
    """How often each offset of one partition of one log is among the facts, by the digest of its bytes."""
    mine = (pc.field("log") == identity) & (pc.field("partition") == partition)
    rows = facts.columns(table, ["offset", "record_digest"], mine)
    found: dict[int, Counter[str]] = {}
    for offset, digest in zip(rows.column("offset").to_pylist(), rows.column("record_digest").to_pylist(), strict=True):
        found.setdefault(offset, Counter())[digest] += 1
    return found


def repair(
    log: Log, writer: FactsWriter, edge: Edge, findings: Iterable[Finding], unsigned: Unsigned = MappingProxyType({})
) -> tuple[int, int]:
    """Take the records that are missing in again; returns how many became facts and how many dead letters."""
    taken = put_aside = 0
    for finding in findings:
        rows: list[Row] = []
        for stored in _missing(log, finding):
            event = _event(edge, stored, unsigned)
            if isinstance(event, Rejected):
                place = {"topic": stored.topic, "partition": stored.partition, "offset": stored.offset}
                log.append([dead_letters.dead_letter(event, stored.value, stored.at_us, **place)])  # type: ignore[arg-type]
                put_aside += 1
                continue
            judged = isinstance(event, Verdict | Unjudged)
            of_content = _digest(stored.value) if judged else content_hash(event)  # type: ignore[arg-type]
            rows.append(Row(event, of_content, _digest(stored.value), stored.offset, stored.at_us))
        writer.fill([Batch(finding.topic, finding.partition, tuple(rows), finding.applied)])
        taken += len(rows)
    return taken, put_aside


def _missing(log: Log, finding: Finding) -> Iterator[Stored]:
    wanted = set(finding.missing)
    if wanted:
        for stored in scan_partition(log, finding.topic, finding.partition, min(wanted)):
            if stored.offset > max(wanted):
                return
            if stored.offset in wanted:
                yield stored


def _event(edge: Edge, stored: Stored, unsigned: Unsigned) -> Turn | Rating | Judgement | Rejected:
    if TABLE_OF_TOPIC[stored.topic] == "verdicts":
        old = stored.offset < unsigned.get((stored.topic, stored.partition), 0)
        if not old and (why_not := edge.refusal(stored.topic, stored.value, stored.headers)) is not None:
            return why_not
        judgement: Judgement = _decode_judgement(stored.value)
        return judgement
    return edge.admit(stored.value, stored.headers, stored.at_us)


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def ranges(offsets: list[int]) -> str:
    """Offsets for people: `3, 7-9`."""
    parts: list[list[int]] = []
    for offset in offsets:
        if parts and offset == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], offset]
        else:
            parts.append([offset])
    return ", ".join("-".join(map(str, part)) for part in parts)
