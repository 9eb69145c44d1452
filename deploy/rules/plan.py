"""By which plan a rollout is watched: its metrics, stages and slices as the settings have them when it is approved."""

from __future__ import annotations

from deploy.rules.assignment import GRACE_US, WINDOW_US
from deploy.settings import RolloutSettings
from feedback.statistics.plan import Metric, Plan, Stage

EXPECTED = {"errors": 0.02, "dislikes": 0.05, "responded": 0.10, "silent": 0.90}
"""Rates of the incumbent's units before any is known: only the first days' power depends on them."""

WIDEST = 0.8
"""Evidence for everybody is gathered at the last share up to this: beyond it too few are left to compare with."""


def plan_of(settings: RolloutSettings, attempt: int) -> Plan | None:
    """The plan of a candidate's how-manieth rollout; None where it goes to everybody at once: nobody is left to compare with.

    A user has errors, dislikes (a thumbs down, at most two stars) and a response, or has not.
    """
    shares = settings.shares[:-1]
    if not shares:
        return None
    proof = max((share for share in shares if share <= WIDEST), default=shares[-1])
    longest = settings.max_stage_s * 1_000_000
    shortest = min(settings.min_stage_s * 1_000_000, longest)
    stages = tuple(Stage(share, _least(share, shortest), longest, evidence=share == proof) for share in shares)
    metrics = (
        Metric("errors", margin=settings.max_error_rise),
        Metric("dislikes", margin=settings.max_dislike_rise),
        Metric("responded", "signal"),
        Metric("silent", "signal"),
    )
    return Plan(metrics, slices=settings.slices, stages=stages, grace_us=GRACE_US, attempt=attempt)


def _least(share: float, shortest_us: int) -> int:
    """Beyond the evidence's stage a window is enough: it is there for what begins late."""
    return min(shortest_us, WINDOW_US) if share > WIDEST else shortest_us
