"""From one log to another: what the first one's groups have not done yet, and dead letters that wait for a person.

What is done is among the facts and stays there. Each record that moves says where it stood, so that a migration that was
broken off goes on where it was: nothing is lost, nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from feedback.intake.edge import Record
from feedback.topics import DEAD_LETTERS
from streams import dead_letters
from streams.log import Log, Stored, scan

FROM_HEADER = "trimtab-from"
RUN = 500


def migrate(
    source: Log, target: Log, groups: Mapping[str, str], progress: Callable[[int], object] = lambda _: None
) -> int:
    """Move everything; `groups` names the group that does each topic. Nobody may use `source` meanwhile. Returns how many
    records the target has got, in this run and those before it that were broken off."""
    moved = 0
    for topic in (*groups, DEAD_LETTERS):
        there = _moved(target, topic)
        moved += len(there)
        waiting = (stored for stored in _waiting(source, topic, groups) if _place(stored) not in there)
        while run := list(islice(waiting, RUN)):
            target.append(_marked(stored) for stored in run)
            moved += len(run)
            progress(moved)
    return moved


def waiting(source: Log, groups: Mapping[str, str]) -> int:
    """How many records there are to move."""
    return sum(1 for topic in (*groups, DEAD_LETTERS) for _ in _waiting(source, topic, groups))


def _waiting(source: Log, topic: str, groups: Mapping[str, str]) -> Iterator[Stored]:
    if topic == DEAD_LETTERS:
        open_ = {letter.id for letter in dead_letters.read(source) if not letter.redriven}
        yield from (stored for stored in scan(source, topic) if dead_letters.decode(stored).id in open_)
    else:
        done = source.committed(groups[topic])
        yield from scan(source, topic, {partition: at for (name, partition), at in done.items() if name == topic})


def _moved(target: Log, topic: str) -> set[bytes]:
    return {value for stored in scan(target, topic) for name, value in stored.headers if name == FROM_HEADER}


def _place(stored: Stored) -> bytes:
    return f"{stored.partition}/{stored.offset}".encode()


def _marked(stored: Stored) -> Record:
    return Record(stored.topic, stored.key, stored.value, (*stored.headers, (FROM_HEADER, _place(stored))))
