"""Questions on their way to the judge's topic: all of them, or a sample while more wait there than the judge can answer.

Kept: those that could not be sent, for the next attempt; they are told only once. A turn that falls out of the sample is
unjudged, with the reason `backlog`, so that the facts account for it.
"""

from __future__ import annotations

from feedback.clock import Clock
from feedback.intake.edge import Edge
from feedback.judge import routing
from feedback.records import JudgeRequest
from feedback.topics import JUDGE_REQUESTS, VERDICTS
from streams import metrics
from streams.log import Producer


class Questions:
    """`room`: as many may wait before there is a sample; None: all are asked. `backlog` is to be kept up to date."""

    def __init__(self, producer: Producer, edge: Edge, clock: Clock, room: int | None = None) -> None:
        self.backlog = 0
        self._edge = edge
        self._producer, self._clock, self._room = producer, clock, room
        self._unsent: list[JudgeRequest] = []

    async def send(self, due: list[JudgeRequest]) -> None:
        """Ask what is due; raises what the producer raises."""
        requests, self._unsent = self._unsent + due, []
        if not requests:
            return
        try:
            await self._send(requests)
        except BaseException:
            self._unsent = requests + self._unsent
            raise

    async def _send(self, requests: list[JudgeRequest]) -> None:
        asked, left = requests, list[JudgeRequest]()
        if self._room is not None:
            asked, left = routing.sampled(requests, self.backlog, self._room)
        now_us = self._clock.now_us()
        unjudged = [routing.unjudged(request, "backlog", now_us) for request in left]
        await self._producer.send(
            [self._edge.vouched(JUDGE_REQUESTS, request) for request in asked]
            + [self._edge.vouched(VERDICTS, judgement) for judgement in unjudged]
        )
        for request in asked:
            metrics.ROUTED.labels(kind=_kind(request)).inc()
        for judgement in unjudged:
            metrics.observe_judgement(judgement)


def _kind(request: JudgeRequest) -> str:
    if request.edit is not None:
        return "edit"
    return "reply" if request.other_turn_id is None else "comparison"
