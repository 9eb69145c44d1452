"""The judge, as a person is told of it. What it is asked for is in test_status.py."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli.judge_view import judge_line


def judge(reachable: bool | None, unpriced: str | None = None) -> dict[str, Any]:
    money = {"spent_usd": 0.5, "budget_usd": 2.0}
    return {"configured": True, "model": "m", "reachable": reachable, "unpriced": unpriced, "hour": money, "day": money}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"configured": False}, "none is configured: unrated turns stay unjudged"),
        (judge(True), "m answers; 0.5000 of 2.00 USD this hour, 0.5000 of 2.00 USD today"),
        (judge(False), "m CAN'T BE REACHED; 0.5000 of 2.00 USD this hour, 0.5000 of 2.00 USD today"),
        (judge(None), "m not asked since the worker started; 0.5000 of 2.00 USD this hour, 0.5000 of 2.00 USD today"),
        (judge(None, unpriced="the judge is not asked: set a price"), "the judge is not asked: set a price"),
    ],
)
def test_it_is_said_whether_it_answers_and_what_it_cost(said: dict[str, Any], line: str) -> None:
    assert judge_line(said) == line
