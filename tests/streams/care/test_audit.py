from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.topics import VERDICTS
from streams import dead_letters
from streams.care.audit import Finding, audit, compare, ranges, repair
from streams.log import TP, Log, scan_partition
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK
from tests.feedback.builders import verdict
from tests.streams.test_worker import KEY, drain, ours, signed, turn, unsigned

EDGE = Edge(KEY)
BAD = Record("turns.served", b"c", b"{no json")


def wrong(findings: list[Finding]) -> dict[str, int]:
    """How many offsets of each kind of fault."""
    return {
        name: sum(len(getattr(finding, name)) for finding in findings)
        for name in ("missing", "doubled", "changed", "unknown")
    }


def busy(log: Log) -> TP:
    """A partition of turns with several records."""
    return next(place for place, end in log.ends().items() if place[0] == "turns.served" and end > 2)


def row(offset: int, digest: str) -> Row:
    """A fact that no worker wrote."""
    event = EDGE.admit(signed(turn(900)).value, signed(turn(900)).headers, 0)
    assert not isinstance(event, Rejected)
    return Row(event, "content", digest, offset, 0)


def without(facts: Path, condition: str) -> None:
    """Lose facts, as a disk might."""
    from deltalake import DeltaTable

    DeltaTable(facts / "turns").delete(condition)


async def test_what_the_worker_did_is_found_good(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(40)] + [unsigned(turn(40)), BAD])
    findings = list(audit(log, Facts(tmp_path / "facts")))
    assert all(finding.good for finding in findings)
    assert sum(finding.records for finding in findings) == 42
    assert sum(finding.facts for finding in findings) == 41
    assert sum(finding.dead_letters for finding in findings) == 1


async def test_what_waits_is_no_fault(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(10)])
    log.append([signed(turn(n)) for n in range(10, 25)])
    findings = list(audit(log, Facts(tmp_path / "facts")))
    assert all(finding.good for finding in findings)
    assert sum(finding.waiting for finding in findings) == 15


async def test_what_the_worker_does_while_it_is_looked_at_is_no_fault(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(10)])
    purged = dead_letters.purged

    def meanwhile(log: Log) -> Any:
        """Once the letters are read another is written, and the record counts as done."""
        yield from purged(log)
        before = log.ends()
        log.append([BAD])
        ((topic, partition),) = [place for place, end in log.ends().items() if end > before[place]]
        writer = FactsWriter(tmp_path / "facts", log.identity, CLOCK)
        for stored in scan_partition(log, topic, partition, before[topic, partition]):
            place = {"topic": topic, "partition": partition, "offset": stored.offset}
            log.append([dead_letters.dead_letter(Rejected("bad_json", "", "no JSON"), stored.value, 0, **place)])  # type: ignore[arg-type]
        writer.commit([Batch(topic, partition, (), stored.offset + 1)])

    monkeypatch.setattr(dead_letters, "purged", meanwhile)
    assert wrong(list(audit(log, Facts(tmp_path / "facts"))))["missing"] == 0


async def test_missing_facts_are_named_by_offset_and_taken_in_again(tmp_path: Path, log: Log) -> None:
    facts = Facts(tmp_path / "facts")
    await drain(tmp_path, log, [signed(turn(n)) for n in range(40)] + [unsigned(turn(n)) for n in range(40, 60)])
    before = {found.turn_id: content_hash for found, content_hash in facts.turns()}
    without(tmp_path / "facts", "turn_id in ('t3', 't17', 't50')")
    findings = list(audit(log, facts))
    assert wrong(findings) == {"missing": 3, "doubled": 0, "changed": 0, "unknown": 0}
    writer = FactsWriter(tmp_path / "facts", log.identity, CLOCK)
    assert repair(log, writer, Edge(KEY), findings) == (3, 0)
    assert all(finding.good for finding in audit(log, facts))
    assert {found.turn_id: content_hash for found, content_hash in facts.turns()} == before


async def test_a_verdict_that_we_did_not_sign_is_not_taken_in_by_a_repair_either(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    value = msgspec.json.encode(verdict("v", "t1", score=1.0))
    await drain(tmp_path, log, [ours(VERDICTS, value)] * 3)
    log.append([Record(VERDICTS, b"k", value)] * 2)
    missing = [Finding(VERDICTS, 0, applied=5, missing=[3, 4])]
    writer = FactsWriter(tmp_path / "facts", log.identity, CLOCK)
    assert repair(log, writer, Edge(KEY), missing, {(VERDICTS, 0): 4}) == (1, 1)
    assert [letter.reason for letter in dead_letters.read(log)] == ["unsigned"]


async def test_doubled_changed_and_unknown_facts_are_told_apart(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(20)])
    place = busy(log)
    facts, end = tmp_path / "facts", log.ends()[place]
    without(facts, f"partition = {place[1]} and offset = 1")
    again = row(2, hashlib.sha256(log.read(*place, 2, 1)[0].value).hexdigest())
    rows = (row(1, "other bytes"), again, row(end + 5, "from nowhere"))
    FactsWriter(facts, log.identity, CLOCK).fill([Batch(*place, rows, 0)])
    (finding,) = (found for found in audit(log, Facts(facts)) if (found.topic, found.partition) == place)
    assert (finding.missing, finding.doubled, finding.changed, finding.unknown) == ([], [2], [1], [end + 5])


async def test_facts_of_another_log_do_not_hide_what_is_missing(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(20)])
    place = busy(log)
    without(tmp_path / "facts", f"partition = {place[1]} and offset = 1")
    FactsWriter(tmp_path / "facts", lambda topic: "another", CLOCK).fill([Batch(*place, (row(1, "x"),), 0)])
    assert wrong(list(audit(log, Facts(tmp_path / "facts"))))["missing"] == 1


@given(
    log=st.lists(st.sampled_from("abc"), max_size=12),
    kept=st.lists(st.tuples(st.integers(0, 14), st.sampled_from("abc")), max_size=15),
    dead=st.dictionaries(st.integers(0, 14), st.sampled_from("abc")),
    applied=st.integers(0, 14),
    first=st.integers(0, 3),
)
def test_every_record_is_judged_once(
    log: list[str], kept: list[tuple[int, str]], dead: dict[int, str], applied: int, first: int
) -> None:
    facts: dict[int, Counter[str]] = {}
    for offset, digest in kept:
        facts.setdefault(offset, Counter())[digest] += 1
    stored = [(first + number, digest) for number, digest in enumerate(log)]
    finding = compare("t", 0, stored, facts, dead, applied)
    for offset, digest in stored:
        copies = [other for at, other in kept if at == offset]
        done = offset < applied
        assert (offset in finding.missing) == (done and not copies and dead.get(offset) != digest)
        assert (offset in finding.changed) == (done and bool(copies) and digest not in copies)
        assert (offset in finding.doubled) == (done and digest in copies and len(copies) > 1)
    assert finding.records == len(log)
    assert finding.waiting == sum(offset >= applied for offset, _ in stored)


def test_offsets_are_told_as_ranges() -> None:
    assert ranges([3, 7, 8, 9, 11]) == "3, 7-9, 11"
    assert ranges([]) == ""
