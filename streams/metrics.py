"""Metrics of the streams: what came in, what was kept, how long it took, what waits. No user or conversation in a label."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from feedback.intake.contract import REPLACED, Code
from feedback.judge.prompt import Reason
from feedback.records import Judgement, Rating, Turn, Unjudged

EVENTS = Counter("trimtab_events_total", "Records read by the ingest hop.", ["topic", "outcome"])
DEAD_LETTERS = Counter("trimtab_dead_letters_total", "Records put aside as dead letters.", ["reason"])
REPLACED_SURROGATES = Counter(
    "trimtab_replaced_surrogates_total", "Events taken in with U+FFFD for halves of surrogate pairs."
)
RATINGS = Counter("trimtab_ratings_total", "Ratings taken in.", ["kind", "source"])
RECEIPT_DELAY_SECONDS = Histogram(
    "trimtab_receipt_delay_seconds",
    "From an event's own time to its receipt on the log.",
    ["topic"],
    buckets=(1, 10, 60, 600, 3_600, 21_600, 86_400, 259_200, 604_800),
)
HOP_SECONDS = Histogram(
    "trimtab_hop_seconds",
    "Time that a hop took for one run of records.",
    ["hop"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
FACTS_COMMITS = Counter("trimtab_facts_commits_total", "Commits into the facts.")
FACTS_ROWS = Counter("trimtab_facts_rows_total", "Rows committed into the facts.", ["table"])
FACTS_COMMIT_SECONDS = Histogram(
    "trimtab_facts_commit_seconds", "Time of one commit into the facts.", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
)
LAG = Gauge("trimtab_lag_records", "Records on the log that a group has still to do.", ["topic", "group"])
ROUTED = Counter("trimtab_routed_total", "Questions sent to the judge.", ["kind"])
JUDGEMENTS = Counter(
    "trimtab_judgements_total", "Answers of the judge: `verdict`, or the reason for none.", ["outcome"]
)
JUDGE_SECONDS = Histogram(
    "trimtab_judge_seconds", "Time of one question to the judge.", buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120)
)
JUDGE_UP = Gauge("trimtab_judge_up", "1 while the judge answers, 0 while it can't be reached.")
JUDGE_COST_USD = Counter("trimtab_judge_cost_usd_total", "Money spent on the judge.")
JUDGE_BUDGET_REMAINING_USD = Gauge(
    "trimtab_judge_budget_remaining_usd", "Money that the judge may still cost in this UTC hour or day.", ["period"]
)
JUDGE_TOKENS = Counter("trimtab_judge_tokens_total", "Tokens asked and answered.", ["kind"])

# A series that begins at 1 has no increase: these are there at 0, so that the first one raises its alert.
for code in get_args(Code):
    DEAD_LETTERS.labels(reason=code)
for outcome in ("verdict", *get_args(Reason)):
    JUDGEMENTS.labels(outcome=outcome)


def observe_events(events: Sequence[tuple[Turn | Rating, int]], topic: str) -> None:
    """Count events of one run that become facts, each with the time of its receipt."""
    delays = [max(0, received_at_us - event.occurred_at_us) / 1e6 for event, received_at_us in events]
    observe_all(RECEIPT_DELAY_SECONDS.labels(topic=topic), delays)
    for event, _ in events:
        if isinstance(event, Rating):
            RATINGS.labels(kind=event.kind, source=event.source).inc()
        if event.extra and REPLACED in event.extra:
            REPLACED_SURROGATES.inc()
    EVENTS.labels(topic=topic, outcome="accepted").inc(len(delays))


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Like `histogram.observe` of each. The client knows no such thing, and one by one costs a fortieth of all work."""
    for bucket, count in Counts(bisect_left(histogram._upper_bounds, amount) for amount in amounts).items():
        histogram._buckets[bucket].inc(count)
    histogram._sum.inc(sum(amounts))


def observe_judgement(judgement: Judgement) -> None:
    """Count an answer of the judge, and what it cost."""
    outcome = judgement.reason if isinstance(judgement, Unjudged) else "verdict"
    JUDGEMENTS.labels(outcome=outcome).inc()
    JUDGE_COST_USD.inc(judgement.cost_usd)
    JUDGE_TOKENS.labels(kind="prompt").inc(judgement.prompt_tokens)
    JUDGE_TOKENS.labels(kind="completion").inc(judgement.completion_tokens)
