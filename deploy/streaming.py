"""The streams of one state directory, opened as its settings say."""

from __future__ import annotations

from deploy.errors import Failed
from deploy.settings import Settings
from deploy.state import State
from feedback.edge import Edge
from feedback.facts import Facts
from streams.judge import Ask
from streams.log import Log, LogFormatError
from streams.router import Router
from streams.worker import Worker, WrongLog


def open_log(state: State, settings: Settings) -> Log:
    """The embedded log; raises Failed with a sentence when it can't be used."""
    try:
        return Log(state.log, settings.broker.partitions)
    except LogFormatError as error:
        raise Failed(str(error)) from None


def open_worker(
    log: Log, state: State, settings: Settings, edge: Edge, ask: Ask | None, router: Router | None
) -> Worker:
    """A worker on that log; start it with `async with`."""
    answered = [judgement.request_id for judgement in Facts(state.facts).verdicts()] if ask is not None else []
    try:
        return Worker(
            log,
            state.log,
            state.facts,
            edge,
            partitions=settings.broker.partitions,
            ask=ask,
            answered=answered,
            router=router,
        )
    except WrongLog as error:
        raise Failed(str(error)) from None
