"""The judge speaks of blind comparisons: of candidates whose fate is open, the oldest pairs first, a few at a time.

A label is stored as soon as it is there, so that a controller that is killed asks again at most what was under way. A judge that is
away, or has no money left, is waited for with growing pauses; a pair on which it breaks off has no verdict, and the reason is kept.
"""

from __future__ import annotations

import asyncio

import structlog

from deploy.errors import Failed
from deploy.parts import make_ask
from deploy.roles.role import REFRESH_S, Role
from deploy.rules.comparing import JUDGE, Comparison, ComparisonLabel
from deploy.text import plain
from feedback.records import Judgement, JudgeRequest, Unjudged, Verdict
from streams.hops.judge import FIRST_PAUSE_S, LONGEST_PAUSE_S, OF_VALUES, Ask

log = structlog.get_logger()

AT_ONCE = 8
"""Pairs that are asked about together."""

MOST = 2_000
"""Characters of what a judge said of a pair that are kept."""

LATER = frozenset({"unreachable", "budget_hour", "budget_day"})
"""Why there is no verdict yet: another time there may be one."""


async def judge_comparisons(role: Role, stop: asyncio.Event) -> None:
    """Ask the judge about pairs as they come, until stopped; returns at once where there is no judge that can be asked."""
    try:
        ask = make_ask(role.settings.judge, role.control, role.clock)
    except Failed as error:  # the rollout is watched all the same
        log.error("comparisons_not_judged", error=str(error))
        return
    pause_s = FIRST_PAUSE_S
    while ask is not None and not stop.is_set():
        try:
            waiting, labels = await _round(role, ask)
            why = "unreachable, or its budget is used up"
        except Exception as error:  # the database is away, say: it is no fault of the pairs
            waiting, labels, why = True, 0, repr(error)
        if waiting and not labels:
            log.warning("comparisons_wait_for_judge", waiting_s=pause_s, why=why)
            await role.clock.wait(stop, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        elif not waiting:
            await role.clock.wait(stop, REFRESH_S)
        if labels or not waiting:
            pause_s = FIRST_PAUSE_S


async def _round(role: Role, ask: Ask) -> tuple[bool, int]:
    """Whether there were pairs, and how many labels came of them."""
    stored = role.control.comparisons
    pairs = await asyncio.to_thread(stored.unjudged, role.clock.now_us(), AT_ONCE)

    async def one(pair: Comparison) -> int:
        label = await _label(role, ask, pair)
        return 0 if label is None else await asyncio.to_thread(stored.label, [label])

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(pair)) for pair in pairs]
    return bool(pairs), sum(task.result() for task in asked)


async def _label(role: Role, ask: Ask, pair: Comparison) -> ComparisonLabel | None:
    """What the judge says of this pair; None where it may be asked later."""
    if pair.identical:
        return ComparisonLabel(pair.id, JUDGE, 0.5, role.clock.now_us(), {}, "both replies are the same")
    try:
        judgement = await ask(question(pair))
    except OF_VALUES as error:  # something in this pair: it would be so every time
        log.error("comparison_not_judged", comparison=pair.id, error=repr(error))
        return ComparisonLabel(pair.id, JUDGE, None, role.clock.now_us(), {}, _kept(f"can't be asked: {error!r}"))
    return label_of(pair, judgement, role.clock.now_us())


def question(pair: Comparison) -> JudgeRequest:
    """The pair as the judge is asked about it, in both orders: it is not told which reply is whose."""
    return JudgeRequest(
        request_id=f"comparison:{pair.id}",
        tenant=pair.tenant,
        conversation_id=pair.conversation_id,
        turn_id=pair.turn_id,
        messages=pair.prompt,
        reply=pair.candidate_reply,
        locale=pair.locale,
        other_reply=pair.incumbent_reply,
    )


def label_of(pair: Comparison, judgement: Judgement, now_us: int) -> ComparisonLabel | None:
    """The judge's label; without a preference where it gave no verdict, None where it was not there to give one."""
    how = {"model": judgement.model, "rubric": judgement.rubric, "cost_usd": judgement.cost_usd}
    match judgement:
        case Unjudged(reason=reason) if reason in LATER:
            return None
        case Unjudged(reason=reason, detail=detail):
            return ComparisonLabel(pair.id, JUDGE, None, now_us, how, _kept(f"{reason}: {detail}"))
        case Verdict():
            how |= {"prompt_hash": judgement.prompt_hash, "order_gap": judgement.order_gap}
            return ComparisonLabel(pair.id, JUDGE, judgement.preference, now_us, how, _kept(judgement.rationale))


def _kept(text: str) -> str:
    """What a judge wrote, as a database takes it."""
    return plain(text[:MOST])
