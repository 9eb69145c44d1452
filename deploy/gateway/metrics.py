"""Metrics of the gateway: chats, feedback, the spool, the shadow. Labels hold no user, conversation or turn."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

CHAT_REQUESTS = Counter("trimtab_chat_requests_total", "Chat requests by status code and arm.", ["code", "arm"])
CHAT_SECONDS = Histogram(
    "trimtab_chat_seconds",
    "From a chat request to the end of its reply.",
    ["arm"],
    buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120, 300),
)
CHAT_FIRST_TOKEN_SECONDS = Histogram(
    "trimtab_chat_first_token_seconds",
    "From a chat request to the first piece of its reply.",
    buckets=(0.03, 0.1, 0.3, 1, 3, 10, 30, 60),
)
TURNS_LOST = Counter("trimtab_turns_lost_total", "Turns that were served but could not be logged.")
TURNS_UNREDACTABLE = Counter(
    "trimtab_turns_unredactable_total",
    "Turns that were served and logged without their texts, which could not be redacted in time.",
)
TURNS_ABORTED = Counter(
    "trimtab_turns_aborted_total", "Turns that a gateway had under way when it died, logged as aborted."
)
SPOOL_RECORDS = Gauge("trimtab_spool_records", "Events in the gateway's spool, with turns under way.")
SPOOL_BYTES = Gauge("trimtab_spool_bytes", "Bytes in the gateway's spool.")
SPOOL_LIMIT_BYTES = Gauge("trimtab_spool_limit_bytes", "Bytes from which on the gateway's spool is full.")
SPOOL_REFUSED = Counter("trimtab_spool_refused_total", "Spooled events that the broker would not take; they are kept.")
SPOOL_OLDEST_SECONDS = Gauge(
    "trimtab_spool_oldest_seconds", "How long the oldest event in the gateway's spool has waited to be sent."
)
SHADOW_PAIRS = Counter(
    "trimtab_shadow_pairs_total", "Pairs of a served reply and the one that the candidate in the shadow gave, unseen."
)
SHADOW_SKIPPED = Counter(
    "trimtab_shadow_skipped_total", "Turns of drawn users that were not copied to the candidate, by reason.", ["reason"]
)
SHADOW_FAILED = Counter(
    "trimtab_shadow_failed_total", "Copies that no pair came of, by reason; nobody who chats notices.", ["reason"]
)
FEEDBACK = Counter("trimtab_feedback_total", "Feedback received by kind and outcome.", ["kind", "outcome"])

SHADOW_SKIPS = ("busy", "engine_away", "asked_before", "daily_cap", "made_way", "over", "unfit")
SHADOW_FAILURES = (
    *("not_loaded", "refused", "broke", "away", "too_slow", "no_text", "unredactable", "not_kept", "unforeseen"),
)
for _counter, _reasons in ((SHADOW_SKIPPED, SHADOW_SKIPS), (SHADOW_FAILED, SHADOW_FAILURES)):
    for _reason in _reasons:
        _counter.labels(reason=_reason)  # it is 0, and not missing: an alert counts on it


@lru_cache(1_000)  # codes come from engines too
def chat_requests(code: int, arm: str) -> Counter:
    """CHAT_REQUESTS of these labels: found again sooner than the library finds them."""
    return CHAT_REQUESTS.labels(code=code, arm=arm)


@lru_cache
def chat_seconds(arm: str) -> Histogram:
    """CHAT_SECONDS of this label."""
    return CHAT_SECONDS.labels(arm=arm)
