"""Ids that say who somebody is: a telephone number or an e-mail address that names a conversation, a turn or an event.

Such an id becomes a keyed hash wherever it stands, so that events still find each other. Whether it does is a function of the
id alone: a rating may lack the locale that its turn has. No content hash and no dataset hash covers a hashed id (`masked`),
as with user ids, so that neither depends on the key.
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from sys import getsizeof

import phonenumbers

from feedback.digests import MASK, masked
from feedback.privacy.personal_data import without_personal_data
from feedback.privacy.remembered import Remembered

CACHED_BYTES = 8_000_000

# An address, a host's number, or seven digits with at most two other characters that are no letters between them.
_MAYBE = re.compile(r"@|%40|\d{1,3}(?:\.\d{1,3}){3}|:[0-9A-Fa-f]{0,4}:|\d(?:[^A-Za-z\d]{0,2}\d){6}")
# UUIDs, hex digests and this gateway's own turn ids: made by machines, at random
_MACHINE = re.compile(
    r"(?:[A-Za-z]{1,9}[-_])?(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=\d*[a-f])[0-9a-f]{24,64})|tt\d-[\w-]{40,}",
    re.I,
)
_LONG_NUMBER = re.compile(r"(?<!\d)\d{10,15}(?!\d)")


class PersonalIds:
    """The ids of one deployment under its key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._remembered = Remembered[str, str](CACHED_BYTES)

    def kept(self, raw: str) -> str:
        """The id as it is kept: itself, or its keyed hash where personal data is found in it. Twice changes nothing."""
        if not may_be_personal(raw) or _MACHINE.fullmatch(raw) is not None:
            return raw
        kept = self._remembered.get(raw)
        if kept is None:
            kept = self.hashed(raw) if is_personal(raw) else raw
            self._remembered.set(raw, kept, getsizeof(raw) + getsizeof(kept))
        return kept

    def hashed(self, raw: str) -> str:
        """`personal-` and 32 hex digits."""
        digest = hmac.digest(self._key, b"id\0" + raw.encode("utf-8", "surrogatepass"), "sha256")
        return f"{MASK}-{digest[:16].hex()}"


def may_be_personal(ids: str) -> bool:
    """Whether an id, or one of several with line ends between them, can be one that says who somebody is: the cheap question."""
    return _MAYBE.search(ids) is not None


def is_personal(raw: str) -> bool:
    """Whether redaction finds something in an id, or a number stands in it that is a telephone's once it has its plus."""
    if masked(raw) != raw:
        return False
    plain = raw.replace("%40", "@")
    return without_personal_data(plain) != plain or any(map(_is_phone, _LONG_NUMBER.findall(raw)))


@lru_cache(maxsize=10_000)
def _is_phone(digits: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False
