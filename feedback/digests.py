"""Sixteen bytes that name a turn, or what it says: among millions, half the size of anything readable."""

from __future__ import annotations

import xxhash


def digest_of(*names: str) -> bytes:
    """16 bytes that name a turn by its key, or an event by its tenant and id."""
    return xxhash.xxh3_128_digest("\0".join(names).encode())


def payload_of(tenant: str, conversation_id: str, turn_id: str, content_hash: str) -> bytes:
    """16 bytes that name what a turn says, all but the hashed user id."""
    return digest_of(tenant, conversation_id, turn_id, content_hash)
