"""What a replay asks the judge: once, at the end of its input, what nobody rated and no verdict speaks of, and which edits by
people without a name are better than the replies."""

from __future__ import annotations

import numpy as np

from deploy.parts import load_rubric
from feedback.dataset import census
from feedback.facts.reader import Facts
from feedback.judge import routing
from feedback.judge.estimate import Estimate, estimate
from feedback.labels import exchanges
from feedback.labels.exchanges import Said
from feedback.records import JudgeRequest, Turn
from feedback.settings import JudgeSettings
from streams.hops.waiting_turns import edit_question


def open_questions(facts: Facts) -> list[JudgeRequest]:
    """All that is still to be asked about these facts: what found no answer before is not asked again. Reads them all."""
    asked = {judgement.request_id for judgement in facts.verdicts()}
    counted = census.take(facts.turns())  # of turns that come twice, the payload that a seal would take
    said = exchanges.said(facts.ratings(), facts.verdicts(), counted.known, 2**62)
    settled = {key for key, ratings in said.ratings.items() if exchanges.is_rated(ratings)} | said.verdicts.keys()
    turns = (turn for turn, _ in facts.turns(only=counted.payloads(np.arange(len(counted)))))
    unrated, about_edits = list[Turn](), list[JudgeRequest]()
    for turn in turns:
        if turn.key not in settled:
            unrated.append(turn)
        elif (question := _about_edit(turn, said)) is not None:
            about_edits.append(question)
    about_edits.sort(key=lambda request: request.request_id)
    requests = routing.unrouted(unrated, settled) + about_edits
    return [request for request in requests if request.request_id not in asked]


def estimated(requests: list[JudgeRequest], settings: JudgeSettings) -> Estimate:
    """What these questions will come to."""
    return estimate(requests, load_rubric(settings), settings)


def _about_edit(turn: Turn, said: Said) -> JudgeRequest | None:
    question = edit_question(turn, *said.ratings.get(turn.key, ()))
    answered = {verdict.edit for verdict in said.edit_verdicts.get(turn.key, ())}
    return question if question is not None and question.edit not in answered else None
