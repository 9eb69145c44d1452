"""Proving an adapter on the replica that says it has it: the recorded probes, scored there by its base and by it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from deploy.engine.vllm.replica import Replica
from models.errors import AdapterInvalid
from models.proof import NotProven, Proven, Record, ScoredProbe, base_differs, prove

PARALLEL = 4
"""Probes that are scored together: the replica has other work."""


async def prove_on(replica: Replica, record: Record, base: str, adapter: str) -> Proven:
    """The proof that `adapter` is the record's candidate, and `base` its base (names on the replica).

    Raises AdapterInvalid where there is none, and what `Replica.logprobs` raises.
    """
    proof = prove(record, await _scores(replica, record, base), await _scores(replica, record, adapter))
    if isinstance(proof, NotProven):
        raise AdapterInvalid(f"{replica.url} has loaded {adapter}, and {proof.reason}")
    return proof


async def prove_base(replica: Replica, record: Record, base: str) -> None:
    """Raises AdapterInvalid where what answers as `base` is not the record's base, and what `Replica.logprobs` raises."""
    if (wrong := base_differs(record, await _scores(replica, record, base))) is not None:
        raise AdapterInvalid(f"{replica.url}: {wrong.reason}")


async def _scores(replica: Replica, record: Record, model: str) -> Sequence[Sequence[float]]:
    room = asyncio.Semaphore(PARALLEL)

    async def score(probe: ScoredProbe) -> list[float]:
        async with room:
            return await replica.logprobs(model, [*probe.prompt, *probe.reply], len(probe.prompt))

    async with asyncio.TaskGroup() as group:
        scoring = [group.create_task(score(probe)) for probe in record.probes]
    return [task.result() for task in scoring]
