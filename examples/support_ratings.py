"""What people say of a reply: customers (noisy, and more often when they are displeased), experts, and other systems."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from support_language import Dice

Event = dict[str, Any]

FLIPPED = 0.12
"""Share of thumbs and picks that say the opposite of what was meant."""

RUBRIC = {
    "wrong_number": "accuracy",
    "off_topic": "helpfulness",
    "wrong_language": "language",
    "curt": "tone",
    "repeats": "brevity",
    "long_winded": "brevity",
    "none": "helpfulness",
}
"""The rubric item that an expert names, by what is wrong with a reply."""


@dataclass(frozen=True)
class Opinion:
    """Who saw which reply when, and what it is worth to them (0..1)."""

    conversation_id: str
    turn_id: str
    user_id: str | None
    locale: str
    at: datetime
    worth: float
    flaw: str
    right: str
    source: str = "user"

    def rating(self, dice: Dice, kind: str, value: Any, after_s: int, rubric: str | None = None) -> Event:
        """A rating event, given `after_s` seconds or up to half as long again after the reply."""
        name = self.turn_id or self.conversation_id
        at = self.at + timedelta(seconds=dice.number(after_s, after_s * 3 // 2))
        event: Event = {
            "event": "rating",
            "schema": 1,
            "event_id": f"rated-{name}-{self.source[0]}-{kind}-{dice.number(1000, 9999)}",
            "conversation_id": self.conversation_id,
            "turn_id": self.turn_id,
            "user_id": self.user_id,
            "occurred_at": at.isoformat().replace("+00:00", "Z"),
            "source": self.source,
            "kind": kind,
            "value": value,
            "rubric": rubric,
            "locale": self.locale,
        }
        optional = ("turn_id", "user_id", "rubric")
        return {key: held for key, held in event.items() if held or key not in optional}

    def pick(self, dice: Dice, other: Opinion) -> tuple[Event, bool]:
        """Which of two replies to one message is preferred; true where it is the first."""
        judge = self.by_expert(dice) if dice.chance(0.3) else self
        if self.worth == other.worth:
            return judge.rating(dice, "pick", {"over": other.turn_id, "tie": True}, 20), True
        mistaken = dice.chance(FLIPPED if judge is self else 0.02)
        first = (self.worth > other.worth) != mistaken
        winner, loser = (judge, other) if first else (replace(judge, turn_id=other.turn_id), self)
        return winner.rating(dice, "pick", {"over": loser.turn_id, "tie": False}, 20), first

    def by_expert(self, dice: Dice) -> Opinion:
        """The same reply in the eyes of one of four experts, who look at it in the days after."""
        days = timedelta(days=dice.number(0, 5), hours=dice.number(1, 9))
        return replace(self, source="expert", user_id=f"expert-{dice.number(1, 4)}", at=self.at + days)


def user_ratings(dice: Dice, seen: Opinion, comment: str) -> list[Event]:
    """What the customer says or does at once."""
    events: list[Event] = []
    content = seen.worth > 0.6
    if dice.chance(0.16 if content else 0.22):
        events += thumbs(dice, seen, content)
    if dice.chance(0.035):
        stars = max(1, min(5, round(1 + 4 * seen.worth) + dice.pick((-1, 0, 0, 0, 1))))
        events.append(seen.rating(dice, "stars", stars, 30))
    if dice.chance(0.03):
        events.append(seen.rating(dice, "comment", comment, 45))
    if not content and dice.chance(0.015):
        events.append(seen.rating(dice, "edit", seen.right, 60))
    signal = dice.weighted(
        {"copy": 0.05, None: 0.95} if content else {"abandon": 0.04, "escalate": 0.03, "rephrase": 0.05, None: 0.88}
    )
    if signal:
        events.append(
            (replace(seen, source="system", user_id=None) if signal == "abandon" else seen).rating(
                dice, "signal", signal, 15
            )
        )
    return events


def thumbs(dice: Dice, seen: Opinion, content: bool) -> list[Event]:
    """A thumb, sometimes taken back or, rarely, turned round later."""
    given = seen.rating(
        dice,
        "thumbs",
        content != dice.chance(FLIPPED),
        dice.pick((8, 8, 12, 20, 40, 300_000) if dice.chance(0.1) else (8, 12, 20)),
    )
    if dice.chance(0.03):
        return [given, seen.rating(dice, "thumbs", None, 600_000 if dice.chance(0.2) else 500)]
    return [given, seen.rating(dice, "thumbs", content, 900)] if dice.chance(0.02) else [given]


def expert_ratings(dice: Dice, seen: Opinion) -> list[Event]:
    """What one of the shop's own people says when they go through the log."""
    expert, rubric = seen.by_expert(dice), RUBRIC[seen.flaw]
    events: list[Event] = []
    if seen.worth < 0.6 and dice.chance(0.095):
        events.append(expert.rating(dice, "edit", seen.right, 60, rubric))
    if dice.chance(0.03):
        events.append(expert.rating(dice, "thumbs", (seen.worth > 0.6) != dice.chance(0.02), 60, rubric))
    if dice.chance(0.015):
        score = {"name": rubric, "value": round(max(0.0, min(1.0, seen.worth + dice.number(-5, 5) / 100)), 2)}
        events.append(expert.rating(dice, "score", score, 60, rubric))
    return events


def conversation_ratings(dice: Dice, seen: Opinion, worths: list[float]) -> list[Event]:
    """What is said of the whole conversation: stars, or a survey that another system holds."""
    events: list[Event] = []
    mean = math.fsum(worths) / len(worths)
    if dice.chance(0.05):
        events.append(seen.rating(dice, "stars", max(1, min(5, round(1 + 4 * mean))), 120))
    if dice.chance(0.06):
        survey = replace(seen, source="system")
        csat = round(max(0.0, min(1.0, mean + dice.number(-15, 15) / 100)), 2)
        events.append(survey.rating(dice, "score", {"name": "csat", "value": csat}, 3_600))
    return events
