"""Blind comparisons: two replies to one prompt, the candidate's and the incumbent's, and what was said of them. Pure values.

Which pairs people are asked about is drawn when a pair is sampled, and stored with the probability: only so may the judge's word
count for the rest (`feedback.statistics.shadow`). The pairs of a candidate are counted in the order of sampling, up to the first
of which somebody still has to speak; who skips it, or does not speak in time, has called it a tie.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deploy.rules.rollout import CandidateState
from deploy.settings import CompareSettings
from feedback.durable import canonical
from feedback.records import Message
from feedback.texts import normal_form

Origin = Literal["offline", "shadow"]
"""Prompts of the gate split, answered after a training; or a copy of a live prompt, answered unseen."""

BESIDE_JUDGE = 0.2
"""The part of the pairs that people are asked about where a judge speaks of all: it carries the judge's word."""

OPEN: tuple[CandidateState, ...] = ("trained", "held", "passed")
"""Nobody has decided on candidates in these states: people and the judge are asked about their pairs."""

JUDGE = ""
"""The labeller of the judge's labels."""


@dataclass(frozen=True)
class Comparison:
    """A pair. `incumbent` None is the bare base; `unit` a hashed user, or the conversation where none is known."""

    candidate: str
    incumbent: str | None
    origin: Origin
    tenant: str
    conversation_id: str
    turn_id: str
    unit: str
    locale: str | None
    prompt: list[Message]
    candidate_reply: str
    incumbent_reply: str
    people: int
    """So many are to be asked (`drawn`); 0: the judge alone."""
    probability: float
    """With which people were to be asked: more than 0, at most 1."""
    sampled_at_us: int
    until_us: int
    """What is said of it later counts nowhere: fixed when it was sampled, so that nobody decides by looking."""

    @property
    def id(self) -> str:
        """32 hex digits, of who is compared on which turn: it tells nothing of the replies."""
        names = [self.candidate, self.incumbent, self.origin, self.tenant, self.conversation_id, self.turn_id]
        return hashlib.sha256(canonical(names)).hexdigest()[:32]

    @property
    def identical(self) -> bool:
        """Whether both replies are the same, to a person: there is nothing to ask about, it is a tie."""
        return normal_form(self.candidate_reply) == normal_form(self.incumbent_reply)


@dataclass(frozen=True)
class ComparisonLabel:
    """What one person, or the judge, said of a pair. `preference` is for the candidate, 0..1; None: skipped, or no verdict."""

    comparison_id: str
    labeller: str
    preference: float | None
    at_us: int
    how: dict[str, Any]
    """Of a person which reply came first; of the judge model, rubric, prompt hash and cost."""
    reason: str = ""


@dataclass(frozen=True)
class Labelled:
    """What the gate has to know of a pair, which is not its texts, with all that was said of it."""

    id: str
    tenant: str
    conversation_id: str
    turn_id: str
    identical: bool
    people: int
    probability: float
    until_us: int
    labels: Sequence[ComparisonLabel]


def drawn(pair: Comparison, second: float, draws: tuple[float, float]) -> Comparison:
    """The pair with how many people are asked about it: nobody where both replies are the same."""
    people = 0 if pair.identical else people_asked(pair.probability, second, draws)
    return dataclasses.replace(pair, people=people)


def probability_of_people(settings: CompareSettings, judged: bool) -> float:
    """With which people are to be asked about a pair; `judged`: there is a judge, which speaks of all of them.

    >>> probability_of_people(CompareSettings(), judged=True), probability_of_people(CompareSettings(people=0.5), judged=False)
    (0.2, 0.5)
    """
    return settings.people if settings.people is not None else BESIDE_JUDGE if judged else 1.0


def people_asked(probability: float, second: float, draws: tuple[float, float]) -> int:
    """How many people are asked about a pair: one with this probability, and then a second one, for the agreement, with that.

    `draws` are uniform in [0, 1), and independent of everything about the pair.

    >>> people_asked(0.2, 0.1, (0.19, 0.5)), people_asked(0.2, 0.1, (0.19, 0.05)), people_asked(0.2, 0.1, (0.2, 0.0))
    (1, 2, 0)
    """
    return 0 if draws[0] >= probability else 1 + (draws[1] < second)
