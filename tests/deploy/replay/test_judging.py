"""What a replay asks the judge: all that is open, once."""

from __future__ import annotations

from typing import Any

from deploy.replay.judging import estimated, open_questions
from feedback.digests import edit_digest
from feedback.records import Judgement, JudgeRequest, Rating, Turn
from feedback.settings import JudgeSettings
from tests.feedback.builders import MemoryFacts, rating, turn, unjudged, verdict

EDIT = rating("e", "t1", "edit", "better", user_id=None)


def asked(*events: Turn | Rating | Judgement) -> list[JudgeRequest]:
    facts: Any = MemoryFacts(events)
    return open_questions(facts)


def test_what_nobody_rated_and_no_verdict_speaks_of_is_asked_about() -> None:
    rated, judged = rating("r", "t2", "thumbs", True), verdict("v", "t3", score=0.5)
    assert [one.turn_id for one in asked(turn("t1"), turn("t2"), turn("t3"), rated, judged)] == ["t1"]


def test_an_edit_without_a_name_is_asked_about_until_a_verdict_speaks_of_its_text() -> None:
    (question,) = asked(turn("t1"), EDIT)
    assert (question.reply, question.other_reply) == ("better", "reply t1")
    of_it = verdict("v", "t1", preference=0.1, edit=edit_digest("reply t1", "better"))
    of_another = verdict("w", "t1", preference=0.1, edit=edit_digest("reply t1", "worse"))
    assert asked(turn("t1"), EDIT, of_it) == []
    assert asked(turn("t1"), EDIT, of_another) == [question]


def test_an_edit_that_an_expert_overrules_or_a_named_user_sends_is_no_question() -> None:
    by_expert = rating("x", "t1", "edit", "best", source="expert", user_id="expert")
    named = rating("n", "t1", "edit", "better")
    assert asked(turn("t1"), EDIT, by_expert) == asked(turn("t1"), named) == []


def test_a_question_that_found_no_answer_is_not_asked_again() -> None:
    (question,) = asked(turn("t1"))
    assert asked(turn("t1"), unjudged("u", "t1", "refused", request_id=question.request_id)) == []


def test_what_is_estimated_is_what_is_asked() -> None:
    told = estimated(asked(turn("t1"), turn("t2"), EDIT), JudgeSettings(base_url="http://judge", model="m", free=True))
    assert (told.questions, told.edits, told.most_usd) == (2, 1, 0.0)
