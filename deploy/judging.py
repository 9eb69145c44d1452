"""The judge of this deployment, put together from its settings; None where none is configured."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from deploy.control import Control
from deploy.errors import Failed
from deploy.ledger import SqlLedger
from feedback import rubric
from feedback.judge_client import Judge, JudgeKeyError
from feedback.ledger import Budget
from feedback.records import Judgement, JudgeRequest
from feedback.rubric import Rubric, RubricError
from feedback.settings import JudgeSettings
from streams.judge import Ask


def load_rubric(settings: JudgeSettings) -> Rubric:
    """The rubric that is configured; raises Failed with a sentence."""
    try:
        return rubric.load(settings.rubric)
    except RubricError as error:
        raise Failed(str(error)) from None


def ledger(settings: JudgeSettings, control: Control) -> SqlLedger:
    """The ledger that all processes of this deployment share."""
    return SqlLedger(control.database, Budget(settings.usd_per_hour, settings.usd_per_day))


def make_ask(settings: JudgeSettings, control: Control, as_of: Callable[[], int] | None = None) -> Ask | None:
    """How to ask the judge. `as_of`: verdicts carry that moment instead of the clock's.

    A replay looks at the past, and so does its judge: else verdicts would lie after the moment that it is sealed at.
    """
    if not settings.configured:
        return None
    try:
        judge = Judge(settings, load_rubric(settings), ledger(settings, control))
    except JudgeKeyError as error:
        raise Failed(str(error)) from None
    if as_of is None:
        return judge.judge

    async def ask(request: JudgeRequest) -> Judgement:
        return msgspec.structs.replace(await judge.judge(request), occurred_at_us=as_of())

    return ask
