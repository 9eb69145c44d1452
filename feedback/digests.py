"""Sixteen bytes that name a turn, or what it says: among millions, half the size of anything readable."""

from __future__ import annotations

import xxhash


def turn_digest(tenant: str, turn_id: str) -> bytes:
    """16 bytes that name a turn."""
    return xxhash.xxh3_128_digest(f"{tenant}\0{turn_id}".encode())


def payload_of(tenant: str, turn_id: str, content_hash: str) -> bytes:
    """16 bytes that name what a turn says, all but the hashed user id."""
    return xxhash.xxh3_128_digest(f"{tenant}\0{turn_id}\0{content_hash}".encode())
