"""The judge: the real one and the real ledger, with a server behind them that takes its time and its money."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

import msgspec
from sqlalchemy import delete

from deploy.control.database import Database, open_database
from deploy.control.ledger import SqlLedger
from deploy.control.schema import ledger as ledger_table
from feedback.judge import rubric
from feedback.judge.call import Answer, price_usd, worst
from feedback.judge.client import Judge
from feedback.judge.ledger import Budget
from feedback.judge.prompt import Prompt
from feedback.settings import JudgeSettings
from tests.simulator.world import Loop, LoopClock, pause

SETTINGS = JudgeSettings(
    base_url="http://judge",
    model="m",
    usd_per_million_prompt_tokens=1.0,
    usd_per_million_completion_tokens=0.0,
    parallel=4,
)
RUBRIC = rubric.load(None)
AGAIN = 0.1
"""How often the server fails once, and wants its money all the same."""

Charge = Callable[[float], None]


@cache
def _database() -> Database:
    return open_database("sqlite://")


def ledger(budget_usd: float) -> SqlLedger:
    """An empty ledger; all worlds share one database, as a seed is over before the next begins."""
    with _database().write() as connection:
        connection.execute(delete(ledger_table))
    return SqlLedger(_database(), Budget(budget_usd, budget_usd))


class SimJudge(Judge):
    """One process's judge."""

    def __init__(self, loop: Loop, ledger: SqlLedger, charge: Charge) -> None:
        self._settings, self._model, self._rubric, self._ledger = SETTINGS, "m", RUBRIC, ledger
        self._clock, self._questions = LoopClock(loop), asyncio.Semaphore(SETTINGS.parallel)
        self._caller = _Server(loop, charge)  # type: ignore[assignment]


class _Server:
    """Charges for every question that reaches it, whether or not somebody still waits for the answer."""

    def __init__(self, loop: Loop, charge: Charge) -> None:
        self._loop, self._charge = loop, charge

    async def ask(self, prompt: Prompt, pay_again: Callable[[], Awaitable[bool]]) -> Answer:
        tokens = worst(prompt, SETTINGS.max_tokens)
        self._charge(price_usd(SETTINGS, tokens))
        await pause(self._loop)
        spent = tokens
        if self._loop.chance.random() < AGAIN:
            if not await pay_again():
                return Answer(spent, reason="server_error", detail="it failed, and there is no money to ask again")
            self._charge(price_usd(SETTINGS, tokens))
            spent += tokens
            await pause(self._loop)
        said = {"scores": {item.name: 3 for item in RUBRIC.items}, "confidence": 1, "rationale": "as it should be"}
        return Answer(spent, text=msgspec.json.encode(said).decode())
