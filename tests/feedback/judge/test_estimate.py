"""What questions will come to is known before one is asked."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.judge import rubric
from feedback.judge.call import worst
from feedback.judge.client import prompts_of
from feedback.judge.estimate import ANSWER_TOKENS, CALL_S, Estimate, estimate
from feedback.judge.prompt import MAX_REPLY_CHARACTERS
from feedback.judge.routing import edit_question, unrouted
from feedback.records import JudgeRequest
from feedback.settings import JudgeSettings
from tests.feedback.builders import says, turn

RUBRIC = rubric.load()


def settings(**changes: Any) -> JudgeSettings:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0}
    return JudgeSettings(**{"base_url": "http://judge", "model": "m", "parallel": 4, **prices, **changes})


def questions() -> list[JudgeRequest]:
    """One of a single reply, one comparison, one of an edit, and one that is too long."""
    first, second = turn("t1", messages=says("where?")), turn("t2", messages=says("where?"), replaces="t1")
    too_long = turn("t4", reply="x" * (MAX_REPLY_CHARACTERS + 1))
    about_edit = edit_question(turn("t5"), "better")
    assert about_edit is not None
    return [*unrouted([first, second, turn("t3"), too_long], ()), about_edit]


def test_calls_tokens_money_and_time_are_those_of_what_is_asked() -> None:
    told = estimate(questions(), RUBRIC, settings())
    assert (told.questions, told.edits, told.calls) == (3, 1, 4)
    assert told.completion_tokens == 4 * ANSWER_TOKENS
    assert told.usd == pytest.approx(told.prompt_tokens / 1e6 + told.completion_tokens / 1e5)
    assert told.seconds == CALL_S
    asked = [prompt for request in questions() if len(request.reply) < 100 for prompt in prompts_of(request, RUBRIC)]
    most = [worst(prompt, 400) for prompt in asked]
    assert told.most_usd == pytest.approx(sum(one.prompt / 1e6 + one.completion / 1e5 for one in most))
    assert told.usd < told.most_usd


def test_a_judge_that_is_free_costs_nothing_and_takes_its_time() -> None:
    free = settings(free=True, usd_per_million_prompt_tokens=None, usd_per_million_completion_tokens=None, parallel=1)
    told = estimate(questions(), RUBRIC, free)
    assert (told.usd, told.most_usd, told.seconds) == (0.0, 0.0, 4 * CALL_S)


def test_nothing_to_ask_comes_to_nothing() -> None:
    assert estimate([], RUBRIC, settings()) == Estimate()
