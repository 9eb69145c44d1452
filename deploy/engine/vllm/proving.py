"""Proving an adapter on the replica that says it has it: the recorded probes, scored there by its base and by it."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence

from deploy.engine.vllm.replica import Replica
from models.errors import AdapterInvalid
from models.proof import NotProven, Proven, Record, base_differs, prove

PARALLEL, TOGETHER = 4, 8
"""Requests under way, and contexts in each: the replica has other work."""

Ids = Sequence[int]

Place = tuple[int, int]
"""Which reply, and which of its tokens."""

Scores = Sequence[Sequence[float]]
"""Log-probability of each token of each of a record's replies, nats."""


async def prove_on(replica: Replica, record: Record, base: Scores, adapter: str) -> Proven:
    """The proof that `adapter` (its name on the replica) is the record's candidate; `base` is what its base scores there.

    Raises AdapterInvalid where there is none, and what `Replica.logprobs` raises.
    """
    proof = prove(record, base, await score_on(replica, record, adapter))
    if isinstance(proof, NotProven):
        raise AdapterInvalid(f"{replica.url} has loaded {adapter}, and {proof.reason}")
    return proof


async def prove_base(replica: Replica, record: Record, base: str) -> Scores:
    """What it scores. Raises AdapterInvalid where what answers as `base` is not the record's base, and what `Replica.logprobs` raises."""
    scores = await score_on(replica, record, base)
    if (wrong := base_differs(record, scores)) is not None:
        raise AdapterInvalid(f"{replica.url}: {wrong.reason}")
    return scores


async def score_on(replica: Replica, record: Record, model: str) -> Scores:
    """What the model of that name on the replica scores. Raises what `Replica.logprobs` raises."""
    return await score(replica, model, [(probe.prompt, probe.reply) for probe in record.probes])


async def score(replica: Replica, model: str, probes: Sequence[tuple[Ids, Ids]]) -> Scores:
    """Log-probability of each token of each probe's reply after its prompt. Raises what `Replica.logprobs` raises.

    All contexts that are followed by the same token are asked for together: by itself each token costs a server several
    times as much. The replies' last tokens come first, so that the server finds every other context in its cache, which a
    salt of its own keeps apart from everybody else's.
    """
    found = [[0.0] * len(reply) for _, reply in probes]
    room, salt = asyncio.Semaphore(PARALLEL), secrets.token_hex(8)

    async def ask(token: int, places: Sequence[Place]) -> None:
        contexts = [[*probes[probe][0], *probes[probe][1][:at]] for probe, at in places]
        async with room:
            scored = await replica.logprobs(model, token, contexts, salt)
        for (probe, at), logprob in zip(places, scored, strict=True):
            found[probe][at] = logprob

    for wave in waves([reply for _, reply in probes]):
        try:
            async with asyncio.TaskGroup() as group:
                for token, places in wave:
                    group.create_task(ask(token, places))
        except ExceptionGroup as errors:  # the first is what all the others are about
            raise errors.exceptions[0] from None
    return found


def waves(replies: Sequence[Ids]) -> Sequence[Sequence[tuple[int, Sequence[Place]]]]:
    """What is asked for at once, as tokens and where they stand: first the end of each reply, then all else.

    >>> waves([[5, 6, 5], [7, 5]])
    [[(5, [(0, 2), (1, 1)])], [(5, [(0, 0)]), (6, [(0, 1)]), (7, [(1, 0)])]]
    """
    ends = [(probe, len(reply) - 1) for probe, reply in enumerate(replies) if reply]
    others = [(probe, at) for probe, end in ends for at in range(end)]
    return [_by_token(replies, ends), _by_token(replies, others)]


def _by_token(replies: Sequence[Ids], places: Iterable[Place]) -> Sequence[tuple[int, Sequence[Place]]]:
    alike: dict[int, list[Place]] = defaultdict(list)
    for probe, at in places:
        alike[replies[probe][at]].append((probe, at))
    return [(token, part) for token, found in alike.items() for part in _cut(found)]


def _cut(places: Sequence[Place]) -> Sequence[Sequence[Place]]:
    return [places[first : first + TOGETHER] for first in range(0, len(places), TOGETHER)]
