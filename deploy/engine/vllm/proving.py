"""Proving an adapter on the replica that says it has it: the recorded probes, scored there by its base and by it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from deploy.engine.vllm.replica import Replica
from models.errors import AdapterInvalid
from models.proof import NotProven, Proven, Record, ScoredProbe, base_differs, prove

PARALLEL = 4
"""Probes that are scored together: the replica has other work."""


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
    room = asyncio.Semaphore(PARALLEL)

    async def score(probe: ScoredProbe) -> list[float]:
        async with room:
            return await replica.logprobs(model, [*probe.prompt, *probe.reply], len(probe.prompt))

    try:
        async with asyncio.TaskGroup() as group:
            scoring = [group.create_task(score(probe)) for probe in record.probes]
    except ExceptionGroup as errors:  # the first is what all the others are about
        raise errors.exceptions[0] from None
    return [task.result() for task in scoring]
