"""Which split a turn belongs to, for ever: what trains never calibrates, what calibrates never gates.

The edge stamps a bucket from the raw user id (the conversation where there is none) before the id is hashed away, so the
split depends neither on the key that ids are hashed with nor on anything that changes later.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from feedback.records import Split

BUCKETS = 100
GATE_BELOW = 20
CALIBRATE_BELOW = 30

_SALT = b"trimtab split 1"  # changing it moves users between splits: never


@lru_cache(maxsize=16_384)
def bucket(unit: str, tenant: str) -> int:
    """The bucket, 0-99, of a raw user id or (for turns without a user) of a conversation id."""
    digest = hashlib.sha256(b"\0".join((_SALT, tenant.encode(), unit.encode()))).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def split_of(bucket: int) -> Split:
    """The split of a bucket: a fifth gates, a tenth calibrates, the rest trains."""
    if bucket < GATE_BELOW:
        return "gate"
    return "calibrate" if bucket < CALIBRATE_BELOW else "train"
