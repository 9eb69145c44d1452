"""What the hops stand on: topics of records with offsets, and groups that have done so much of them.

Two of them: `streams.sqlite.log` (embedded, one file) and `streams.kafka.log` (a Kafka cluster). Topics go by the same
names on both; a prefix that a cluster's topics may carry never shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct

from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.topics import DEAD_LETTERS, REDRIVEN

if TYPE_CHECKING:
    from feedback.intake.edge import Record

TP = tuple[str, int]
"""Topic and partition."""


DAY_S = 86_400
KEPT_S = 7 * DAY_S
"""How long records stay after they were received; on the embedded log, those that are done."""

DEAD_LETTERS_KEPT_S = 30 * DAY_S
"""On Kafka; the embedded log keeps dead letters for ever."""

MAX_RECORD_BYTES = 2 * MAX_EVENT_BYTES
"""A dead letter holds a whole event, escaped."""


class Stored(Struct, frozen=True, gc=False):
    """A record as it stands in the log; `at_us` is the time of its receipt."""

    topic: str
    partition: int
    offset: int
    at_us: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


Unsigned = Mapping[TP, int]
"""Up to which offset of a partition questions and verdicts are taken without a signature: they stood there before there were any."""

SCAN_RUN = 5_000
"""Records that `scan` reads at once."""

Starts = Callable[[str, int], int | None]
"""Up to which offset the facts have a partition of a topic; None where the group's offsets alone count."""


def kept_s(topic: str) -> int:
    """How long a topic keeps its records."""
    return DEAD_LETTERS_KEPT_S if topic in (DEAD_LETTERS, REDRIVEN) else KEPT_S


class LogError(Exception):
    """The log can't be used; says why and what to do."""


class RecordRefused(LogError):
    """The log will never take this record as it is; says why."""


class Producer(Protocol):
    """Sends records; when `send` returns they are durable, when it raises they may or may not be."""

    async def send(self, records: Sequence[Record]) -> None: ...

    async def close(self) -> None:
        """Wait for what was sent before, then let go."""


class Log(Protocol):
    """Synchronous, and safe to use from several threads. Raises LogError."""

    prefix: str
    """What the names of topics and groups begin with, as Faust knows them."""

    def identity(self, topic: str) -> str:
        """Says which log this is: offsets of one mean nothing in another, though it bears the same name."""

    def create_topic(self, topic: str, partitions: int | None = None) -> bool:
        """Make sure that a topic exists; an existing one keeps its partitions. Whether it was made."""

    def topics(self) -> dict[str, int]:
        """Topics and how many partitions each has."""

    def append(self, records: Iterable[Record]) -> object:
        """Append records durably, each to the partition of its key."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Stored]:
        """Up to `limit` records from `offset` on, or from the oldest one kept."""

    def ends(self) -> dict[TP, int]:
        """The offset that comes next, for every partition."""

    def committed(self, group: str) -> dict[TP, int]:
        """Where a consumer group stands; partitions that it never committed are absent."""

    def rewind(self, group: str, offsets: dict[TP, int]) -> None:
        """Let a consumer group begin again at these offsets: what it did after them was not kept."""

    def trim(self, before_us: int, groups: Mapping[str, str]) -> int:
        """Remove what is done and older than this; `groups` names each topic's group. Returns how many records went."""

    def forget(self, topic: str, places: Mapping[int, Collection[int]]) -> int:
        """Remove the records at these offsets (by partition), where one can be removed at all. Returns how many went."""

    def close(self) -> None: ...


class Standing(NamedTuple):
    """How far a group has come in a partition: the offset up to which it committed, and the one that comes next."""

    done: int
    end: int

    @property
    def lag(self) -> int:
        """Records that the group has still to do."""
        return self.end - self.done


def standings(log: Log, groups: Mapping[str, str]) -> dict[TP, Standing]:
    """Every partition of the topics of `groups` (group by topic)."""
    done = {group: log.committed(group) for group in set(groups.values())}
    ends = {place: end for place, end in log.ends().items() if place[0] in groups}
    return {place: Standing(done[groups[place[0]]].get(place, 0), end) for place, end in ends.items()}


def lag(log: Log, groups: Mapping[str, str]) -> dict[str, int]:
    """Records of each topic that its group has still to do."""
    return lag_of(standings(log, groups), groups)


def lag_of(places: Mapping[TP, Standing], topics: Iterable[str]) -> dict[str, int]:
    """The lag of each topic, over its partitions."""
    behind = dict.fromkeys(topics, 0)
    for (topic, _), standing in places.items():
        behind[topic] += standing.lag
    return behind


def scan(log: Log, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Stored]:
    """Every record of a topic, partition by partition, from these offsets (else the oldest kept) to where it ends now."""
    for partition in range(log.topics().get(topic, 0)):
        yield from scan_partition(log, topic, partition, (starts or {}).get(partition, 0))


def scan_partition(log: Log, topic: str, partition: int, offset: int = 0) -> Iterator[Stored]:
    """Every record of one partition from an offset on, to where it ends now."""
    end = log.ends()[topic, partition]
    while offset < end and (run := log.read(topic, partition, offset, SCAN_RUN)):
        yield from (stored for stored in run if stored.offset < end)
        offset = run[-1].offset + 1
