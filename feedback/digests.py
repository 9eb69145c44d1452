"""Sixteen bytes that name a turn, or what it says: among millions, half the size of anything readable."""

from __future__ import annotations

import hashlib
import re

import xxhash

MASK = "personal"
_HASHED = re.compile(rf"{MASK}-[0-9a-f]{{32}}")
"""An id in which personal data was found, see privacy/ids.py."""


def masked(kept: str) -> str:
    """The id as hashes of content cover it: all that were hashed are alike."""
    return MASK if kept.startswith(MASK) and _HASHED.fullmatch(kept) else kept


def digest_of(*names: str) -> bytes:
    """16 bytes that name a turn by its key, or an event by its tenant and id."""
    return xxhash.xxh3_128_digest("\0".join(names).encode())


def payload_of(tenant: str, conversation_id: str, turn_id: str, content_hash: str) -> bytes:
    """16 bytes that name what a turn says, all but ids that were hashed: of two payloads the smaller digest counts, whatever
    the key is."""
    return digest_of(tenant, masked(conversation_id), masked(turn_id), content_hash)


def edit_digest(reply: str, edited: str) -> str:
    """Names what was made of a reply, 32 hex digits: a verdict speaks of these two texts, whatever is sent under their ids
    later. Nobody can find others of the same digest."""
    return hashlib.sha256(b"\0".join(text.encode("utf-8", "replace") for text in (reply, edited))).hexdigest()[:32]
