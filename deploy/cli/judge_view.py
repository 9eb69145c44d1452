"""The judge as `trimtab status` tells of it: whether it answers, and what it has cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.cli.common import Context
from deploy.cli.roles_view import JUDGE_ASKED, JUDGE_UP, Seen
from deploy.parts import ledger


def judge_document(context: Context, seen: Sequence[Seen]) -> dict[str, Any]:
    """For a program. `reachable` is what the worker found when it asked last, None where none has asked yet."""
    judge = context.settings.judge
    if not judge.configured:
        return {"configured": False}
    asked = [one.figures[JUDGE_UP] for one in seen if one.figures.get(JUDGE_ASKED, 0) > 0]
    spent = ledger(judge, context.control).spent(context.clock.now_us())
    return {
        "configured": True,
        "model": judge.model,
        "reachable": any(asked) if asked else None,
        "unpriced": judge.unpriced,
        "hour": {"spent_usd": spent.hour_usd, "budget_usd": judge.usd_per_hour},
        "day": {"spent_usd": spent.day_usd, "budget_usd": judge.usd_per_day},
    }


def judge_line(judge: dict[str, Any]) -> str:
    """The same for a person."""
    if not judge["configured"]:
        return "none is configured: unrated turns stay unjudged"
    if judge["unpriced"] is not None:
        return str(judge["unpriced"])
    answers = {True: "answers", False: "CAN'T BE REACHED", None: "not asked since the worker started"}
    spent = ", ".join(
        f"{judge[period]['spent_usd']:.4f} of {judge[period]['budget_usd']:.2f} USD {when}"
        for period, when in (("hour", "this hour"), ("day", "today"))
    )
    return f"{judge['model']} {answers[judge['reachable']]}; {spent}"
