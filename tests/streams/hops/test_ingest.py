"""What does not fit is buried alone, whatever it is; and however often a run is tried, it is buried and counted once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from feedback.facts.reader import Facts
from feedback.facts.tables import Batch
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import SIGNATURE_HEADER, Edge, Record
from feedback.records import JudgeRequest, Rating, Turn
from feedback.topics import DEAD_LETTERS, JUDGE_REQUESTS, RATINGS, TURNS, VERDICTS
from streams import dead_letters
from streams.hops import hop
from streams.hops.facts_sink import FactsSink
from streams.hops.hop import Ack, Work, handle
from streams.hops.ingest import Ingest
from streams.hops.questions import Questions
from streams.log import Stored
from streams.sqlite.log import SqliteLog
from streams.worker import Worker
from tests.fakes import CLOCK, MemoryProducer
from tests.streams.test_worker import KEY, NOW_US, drain, ours, signed, turn, unsigned
from tests.streams.test_worker import worker as worker_on

EDGE = Edge(KEY)


def verdict(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event": "verdict", "verdict_id": f"v{number}", "request_id": f"q{number}", "tenant": "d", "conversation_id": "c",
        "turn_id": f"t{number}", "occurred_at_us": NOW_US, "model": "m", "rubric": "r", "prompt_hash": "p",
        "confidence": 1, "rationale": "", "score": 0.5, **more,
    }  # fmt: skip


def rating(number: int) -> dict[str, Any]:
    said = turn(number, event="rating", event_id=f"r{number}", source="user", kind="thumbs", value=True)
    return {name: value for name, value in said.items() if name not in ("messages", "reply", "policy")}


def dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def signed_bytes(value: bytes) -> tuple[tuple[str, bytes], ...]:
    return ((SIGNATURE_HEADER, EDGE._sign(value)),)


SIGNED = signed(turn(1)).value
DEEP = b'{"deep":' * 100_000
ODD = {
    "garbage": b"\xff\x00 no record",
    "nothing": b"",
    "nested deeper than any stack": DEEP,
    "a number of a million digits": b'{"event":' + b"1" * 1_000_000 + b"}",
}
ODD_VERDICTS = ODD | {
    "a time beyond int64": dump(verdict(1, occurred_at_us=2**63)),
    "a time of thirty digits": dump(verdict(1, occurred_at_us=10**30)),
    "a time before any calendar": dump(verdict(1, occurred_at_us=-(2**62))),
    "half a character": dump(verdict(1)).replace(b'"d"', rb'"\ud800"'),
    "an object where text is due": dump(verdict(1, tenant={"a": 1})),
    "something deep in a field that nobody knows": dump(verdict(1))[:-1] + b',"more":' + DEEP,
}
ODD_SIGNED = {
    "a time beyond int64": SIGNED.replace(b'"occurred_at_us":1767268801000000', b'"occurred_at_us":%d' % 2**63),
    "a time before any calendar": SIGNED.replace(b'"occurred_at_us":1767268801000000', b'"occurred_at_us":-%d' % 2**62),
    "a part that is no object": SIGNED.replace(b'"write to [email]"', b"[1]"),
    "a rating that rates nothing": signed(rating(1)).value.replace(b"true", b'"perhaps"'),
    "deep": SIGNED[:-1] + b',"more":' + DEEP,
}


async def buried(root: Path, topic: str, records: list[Record]) -> list[dead_letters.DeadLetter]:
    """The dead letters of a worker that finds nothing but these on a topic, all in one run; it must do all of them."""
    log = SqliteLog(root / "log.db", CLOCK, partitions=1)
    await drain(root, log, [Record(topic, b"k", record.value, record.headers) for record in records])
    assert log.committed("trimtab-ingest")[topic, 0] == len(records)
    return list(dead_letters.read(log))


@pytest.mark.parametrize("odd", ODD_VERDICTS)
async def test_two_odd_verdicts_alone_in_a_run_are_buried(tmp_path: Path, odd: str) -> None:
    records = [ours(VERDICTS, ODD_VERDICTS[odd])] * 2
    letters = await buried(tmp_path, VERDICTS, records)
    assert [(letter.reason, letter.offset, letter.value) for letter in letters] == [
        ("poison", offset, ODD_VERDICTS[odd]) for offset in (0, 1)
    ]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("topic", [TURNS, RATINGS])
async def test_odd_bytes_on_the_topics_of_events_are_buried(tmp_path: Path, topic: str, odd: str) -> None:
    letters = await buried(tmp_path, topic, [Record(topic, b"k", ODD[odd])] * 2)
    assert [(letter.offset, letter.value) for letter in letters] == [(0, ODD[odd]), (1, ODD[odd])]


def test_the_odd_signed_events_are_what_they_say() -> None:
    """They are made by replacing text that has to be there."""
    assert len({SIGNED, signed(rating(1)).value, *ODD_SIGNED.values()}) == 2 + len(ODD_SIGNED)


@pytest.mark.parametrize("odd", ODD_SIGNED)
async def test_what_was_signed_and_is_odd_all_the_same_is_buried(tmp_path: Path, odd: str) -> None:
    value = ODD_SIGNED[odd]
    topic = RATINGS if b'"rating"' in value else TURNS
    letters = await buried(tmp_path, topic, [Record(topic, b"k", value, signed_bytes(value))] * 2)
    assert [(letter.reason, letter.value) for letter in letters] == [("poison", value)] * 2


async def test_what_only_a_commit_would_choke_on_is_buried_alone(tmp_path: Path) -> None:
    good, odd = verdict(1), verdict(2, occurred_at_us=2**63)
    (letter,) = await buried(tmp_path, VERDICTS, [ours(VERDICTS, dump(one)) for one in (good, odd)])
    assert (letter.reason, letter.offset) == ("poison", 1)
    assert [judgement.verdict_id for judgement in Facts(tmp_path / "facts").verdicts()] == ["v1"]


async def test_a_record_too_big_for_a_letter_is_buried_as_far_as_it_goes_and_audited_whole(tmp_path: Path) -> None:
    from streams.care.audit import audit
    from streams.log import MAX_RECORD_BYTES

    value = b'{"x": "' + b"x" * 2 * 1_000_000
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    await drain(tmp_path, log, [Record(TURNS, b"k", value)])
    (stored,) = log.read(DEAD_LETTERS, 0, 0, 9)
    assert len(stored.value) < MAX_RECORD_BYTES
    (letter,) = dead_letters.read(log)
    assert value.startswith(letter.value)
    assert "the first 1" in letter.message
    assert all(finding.good for finding in audit(log, Facts(tmp_path / "facts")))


class Broken(Edge):
    """A new version with a mistake in it: nothing at all is admitted."""

    def admit(self, value: bytes, headers: tuple[tuple[str, bytes], ...], now_us: int) -> Any:
        raise KeyError("locale")


async def test_a_mistake_of_ours_that_spoils_every_record_buries_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop, "FIRST_PAUSE_S", 0.0)
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([signed(turn(1))])
    running: Worker = worker_on(tmp_path, log, edge=Broken(KEY))
    async with running:
        with pytest.raises(KeyError):
            await running.drained()
    assert list(dead_letters.read(log)) == []
    await drain(tmp_path, log, [])
    assert len(list(Facts(tmp_path / "facts").turns())) == 1


WRONG = {
    "a rating on turns.served": (TURNS, unsigned(rating(1)), RATINGS),
    "a signed rating on turns.served": (TURNS, signed(rating(1)), RATINGS),
    "a turn on ratings.given": (RATINGS, unsigned(turn(1)), TURNS),
    "a signed turn on ratings.given": (RATINGS, signed(turn(1)), TURNS),
    "a verdict on turns.served": (TURNS, Record("", b"", dump(verdict(1))), VERDICTS),
    "a request on ratings.given": (RATINGS, Record("", b"", dump({"request_id": "q", "messages": []})), JUDGE_REQUESTS),
    "a turn on verdicts.given": (VERDICTS, signed(turn(1)), TURNS),
    "a rating on verdicts.given": (VERDICTS, signed(rating(1)), RATINGS),
    "a request on verdicts.given": (VERDICTS, Record("", b"", dump({"request_id": "q"})), JUDGE_REQUESTS),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_topic_takes_only_its_own_kind(tmp_path: Path, what: str) -> None:
    topic, record, home = WRONG[what]
    (letter,) = await buried(tmp_path, topic, [record])
    assert letter.reason == "wrong_topic"
    assert letter.message == f"{what.replace('signed ', '')}: send it to {home}"
    facts = Facts(tmp_path / "facts")
    assert [*facts.turns(), *facts.ratings(), *facts.verdicts()] == []


FORGED = {
    "without a signature": lambda value: (),
    "signed as an event": lambda value: signed_bytes(value),
    "signed as a question": lambda value: ours(JUDGE_REQUESTS, value).headers,
    "signed with another key": lambda value: ((SIGNATURE_HEADER, Edge(b"x" * 32)._sign(b"verdicts.given\0" + value)),),
    "with another verdict's signature": lambda value: ours(VERDICTS, dump(verdict(2))).headers,
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_verdict_that_we_did_not_sign_is_refused_counted_and_kept_as_a_letter(tmp_path: Path, how: str) -> None:
    value, before = dump(verdict(1)), counted()
    (letter,) = await buried(tmp_path, VERDICTS, [Record(VERDICTS, b"k", value, FORGED[how](value))])
    assert (letter.reason, letter.value) == ("unsigned", value)
    assert since(before) == {"trimtab_dead_letters_total unsigned": 1}
    assert list(Facts(tmp_path / "facts").verdicts()) == []


async def test_verdicts_from_before_the_upgrade_are_taken_by_where_they_stand(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([Record(VERDICTS, b"k", dump(verdict(number))) for number in range(3)])
    for _ in range(2):
        async with worker_on(tmp_path, log, unsigned={(VERDICTS, 0): 2}) as running:
            await running.drained()
    assert sorted(judgement.verdict_id for judgement in Facts(tmp_path / "facts").verdicts()) == ["v0", "v1"]
    assert [(letter.reason, letter.offset) for letter in dead_letters.read(log)] == [("unsigned", 2)]


class Sink(FactsSink):
    """Commits nothing; fails so many times before it takes a batch."""

    def __init__(self, root: Path, failures: int = 0) -> None:
        super().__init__(FactsWriter(root, lambda topic: "log", CLOCK), lambda error: None, CLOCK)
        self.failures, self.taken = failures, list[tuple[Batch, Ack]]()

    async def put(self, batch: Batch, ack: Ack) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on device")
        self.taken.append((batch, ack))


class AnswerLost(MemoryProducer):
    """Takes what it is given for a topic and says that it didn't, so many times."""

    def __init__(self, times: int, topic: str = DEAD_LETTERS) -> None:
        super().__init__()
        self.times, self._topic = times, topic

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None:
        await super().send(records)
        if self.times and records and records[0].topic == self._topic:
            self.times -= 1
            raise OSError("the answer was lost")


class Observer:
    """What the router is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, partition: int, event: Turn | Rating, received_at_us: int) -> list[JudgeRequest]:
        self.seen.append(event.event_id)
        return []


def counted() -> dict[str, float]:
    """The counters of what comes in."""
    wanted = ("trimtab_events_total", "trimtab_dead_letters_total", "trimtab_ratings_total")
    return {
        f"{sample.name} {','.join(sample.labels.values())}": sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name in wanted or sample.name == "trimtab_receipt_delay_seconds_count"
    }


def since(before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}


def run_of(topic: str, *records: Record) -> tuple[Stored, ...]:
    return tuple(
        Stored(topic, 0, 100 + number, NOW_US, record.key, record.value, record.headers)
        for number, record in enumerate(records)
    )


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Ingest, Sink, Observer]]:
    monkeypatch.setattr(hop, "FIRST_PAUSE_S", 0.0)

    def make(producer: MemoryProducer, failures: int = 0) -> tuple[Ingest, Sink, Observer]:
        sink, observer = Sink(tmp_path, failures), Observer()
        return Ingest(EDGE, sink, producer, Questions(producer, EDGE, CLOCK), observer, CLOCK), sink, observer

    return make


RUN = run_of(RATINGS, signed(rating(1)), Record(RATINGS, b"k", b"{no json"), signed(rating(2)), signed(turn(1)))


async def test_a_run_whose_sink_failed_is_buried_observed_and_counted_once(
    ingest: Callable[..., tuple[Ingest, Sink, Observer]],
) -> None:
    producer = MemoryProducer()
    hops, sink, observer = ingest(producer, failures=2)
    before = counted()
    await handle(RUN, lambda: None, hops.events, CLOCK)
    assert [dead_letters._decode(record.value).offset for record in producer.records] == [101, 103]
    assert observer.seen == ["r1", "r2"]
    assert since(before) == {}, "what is not among the facts yet is not counted either"
    ((batch, ack),) = sink.taken
    assert [row.offset for row in batch.rows] == [100, 102]
    ack()
    assert since(before) == {
        "trimtab_events_total ratings.given,accepted": 2,
        "trimtab_events_total ratings.given,dead_letter": 2,
        "trimtab_dead_letters_total bad_json": 1,
        "trimtab_dead_letters_total wrong_topic": 1,
        "trimtab_ratings_total thumbs,user": 2,
        "trimtab_receipt_delay_seconds_count ratings.given": 2,
    }


async def test_letters_whose_answer_was_lost_are_counted_once(
    ingest: Callable[..., tuple[Ingest, Sink, Observer]],
) -> None:
    hops, sink, observer = ingest(AnswerLost(2))
    before = counted()
    await handle(RUN, lambda: None, hops.events, CLOCK)
    sink.taken[0][1]()
    assert since(before)["trimtab_dead_letters_total bad_json"] == 1
    assert since(before)["trimtab_events_total ratings.given,dead_letter"] == 2
    assert observer.seen == ["r1", "r2"]


async def test_poison_among_verdicts_is_buried_and_counted_once(
    ingest: Callable[..., tuple[Ingest, Sink, Observer]],
) -> None:
    producer = MemoryProducer()
    hops, sink, _ = ingest(producer, failures=1)
    before = counted()
    run = run_of(VERDICTS, ours(VERDICTS, b"garbage"), ours(VERDICTS, dump(verdict(1))))
    await handle(run, lambda: None, hops.verdicts, CLOCK)
    sink.taken[0][1]()
    assert len(producer.records) == 1
    assert since(before) == {"trimtab_dead_letters_total poison": 1}


async def test_a_run_that_comes_again_before_it_is_done_is_not_buried_again(
    ingest: Callable[..., tuple[Ingest, Sink, Observer]],
) -> None:
    """After a rebalance: the facts do not hold it yet. What was observed went with the partition, and is observed again."""
    producer = MemoryProducer()
    hops, sink, observer = ingest(producer)
    before = counted()
    again: Work = hops.events
    for run in (RUN, tuple(RUN)[1:] + run_of(RATINGS)):
        await handle(run, lambda: None, again, CLOCK)
    assert len(producer.records) == 2
    assert observer.seen == ["r1", "r2", "r2"]
    for _, ack in sink.taken:
        ack()
    assert since(before)["trimtab_dead_letters_total bad_json"] == 1
    await handle(RUN, lambda: None, again, CLOCK)
    assert len(producer.records) == 4, "once it is done nothing is remembered: another log may have records there"
