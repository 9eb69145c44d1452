"""What a replay asks the judge: once, at the end of its input, what nobody rated and no verdict speaks of, and which edits by
people without a name are better than the replies."""

from __future__ import annotations

import numpy as np

from feedback.dataset import census
from feedback.facts.reader import Facts
from feedback.judge import routing
from feedback.labels import exchanges
from feedback.labels.exchanges import Said
from feedback.records import JudgeRequest, Turn
from streams.hops.waiting_turns import edit_question


def open_questions(facts: Facts) -> list[JudgeRequest]:
    """All that is still to be asked about these facts. Reads them all."""
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
    return routing.unrouted(unrated, settled) + about_edits


def _about_edit(turn: Turn, said: Said) -> JudgeRequest | None:
    question = edit_question(turn, *said.ratings.get(turn.key, ()))
    answered = {verdict.edit for verdict in said.edit_verdicts.get(turn.key, ())}
    return question if question is not None and question.edit not in answered else None
