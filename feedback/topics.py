"""The topics' names, as everybody knows them; a prefix that a cluster may put before them never shows."""

from __future__ import annotations

TURNS = "turns.served"
RATINGS = "ratings.given"
VERDICTS = "verdicts.given"
JUDGE_REQUESTS = "judge.requests"
DEAD_LETTERS = "dead.letters"
REDRIVEN = "dead.letters.redriven"
"""Which dead letters were sent again."""

EVENTS = (TURNS, RATINGS)
"""What comes from outside."""

FACTS = (TURNS, RATINGS, VERDICTS)
"""What becomes facts."""

TOPICS = (*FACTS, JUDGE_REQUESTS, DEAD_LETTERS, REDRIVEN)
