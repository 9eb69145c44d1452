"""Turn ids that prove themselves: what a reply was, sealed, so that feedback on it needs neither look-up nor login.

`tt2-` and base64url of AES-SIV (RFC 5297) under a key derived from the deployment's, over: nonce (9 bytes) | flags (1) |
first half of the adapter's digest (8) | choice (1) | choices (1) | length of the tenant (1) | tenant | conversation.
Sealed and secret: an id tells whoever holds it nothing but about how long the conversation's name is. What is sealed is
a function of these bytes alone, so that the ids of a reply's other choices follow from any one of them.

Ids of version `tt1-` (signed with HMAC-SHA256, but readable) are still opened.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from msgspec import Struct

from deploy.rules.assignment import Arm
from deploy.web.tokens import token_bytes

PREFIX = "tt2-"
PREFIX_1 = "tt1-"
PREFIXES = (PREFIX, PREFIX_1)
"""Whatever begins so must have been sealed here."""

MAX_NAMES_BYTES = 150
"""Most UTF-8 bytes of tenant and conversation together: an id then stays below the contract's 256 characters."""

MAX_CHOICES = 128
"""Of one reply: as many as OpenAI's `n` may ask for."""

_NONCE = 9
_HEAD = struct.Struct(f"{_NONCE}sB8sBBB")
_CHOICE_AT = _NONCE + 1 + 8
_CANDIDATE, _ADAPTER = 1, 2
"""Flags."""
_SIV = 16

_CONTEXT_1 = b"trimtab turn id 1\0"
_MAC_1 = 16
_HEAD_1 = struct.Struct(f"{_NONCE}sB8sB")


class TurnId(Struct, frozen=True):
    """What a turn id says. `adapter`: the first 16 hex digits of the digest, None for the bare base."""

    tenant: str
    conversation_id: str
    arm: Arm
    adapter: str | None
    choice: int = 0
    choices: int = 1
    """How many the reply has; each is a turn."""


class TurnIds:
    """Seals and opens turn ids under one key."""

    def __init__(self, key: bytes, nonce: Callable[[int], bytes] = token_bytes) -> None:
        self._key, self._nonce = key, nonce
        self._cipher = AESSIV(hmac.digest(key, b"trimtab turn id 2", "sha512"))

    def seal(self, turn: TurnId) -> str:
        """A fresh id for a turn. Raises ValueError when tenant and conversation are too long, or there are too many choices."""
        tenant, conversation = turn.tenant.encode(), turn.conversation_id.encode()
        if len(tenant) + len(conversation) > MAX_NAMES_BYTES:
            raise ValueError(f"tenant and conversation_id together have more than {MAX_NAMES_BYTES} bytes")
        if not 0 <= turn.choice < turn.choices <= MAX_CHOICES:
            raise ValueError(f"{turn.choice} of {turn.choices} is none of at most {MAX_CHOICES} choices")
        flags = (_CANDIDATE if turn.arm == "candidate" else 0) | (_ADAPTER if turn.adapter is not None else 0)
        adapter = bytes.fromhex(turn.adapter[:16]) if turn.adapter is not None else bytes(8)
        head = _HEAD.pack(self._nonce(_NONCE), flags, adapter, turn.choice, turn.choices, len(tenant))
        return self._sealed(head + tenant + conversation)

    def open(self, text: str) -> TurnId | None:
        """What the id says; None when it was not sealed under this key."""
        if text.startswith(PREFIX_1):
            return self._open_1(text)
        body = self._body(text)
        if body is None:
            return None
        _, flags, adapter, choice, choices, cut = _HEAD.unpack_from(body)
        tenant, conversation = _names(body[_HEAD.size :], cut)
        arm: Arm = "candidate" if flags & _CANDIDATE else "incumbent"
        return TurnId(tenant, conversation, arm, adapter.hex() if flags & _ADAPTER else None, choice, choices)

    def choice(self, text: str, choice: int) -> str | None:
        """The id of this choice (from 0) of the reply of which `text` names one, the same each time.

        None when there is no such choice, or `text` was not sealed under this key.
        """
        if text.startswith(PREFIX_1):
            return text if choice == 0 and self._open_1(text) is not None else None
        body = self._body(text)
        if body is None or not 0 <= choice < body[_CHOICE_AT + 1]:
            return None
        return self._sealed(body[:_CHOICE_AT] + bytes([choice]) + body[_CHOICE_AT + 1 :])

    def _sealed(self, body: bytes) -> str:
        return PREFIX + base64.urlsafe_b64encode(self._cipher.encrypt(body, None)).rstrip(b"=").decode()

    def _body(self, text: str) -> bytes | None:
        sealed = _decoded(text, PREFIX, _SIV + _HEAD.size)
        try:
            return self._cipher.decrypt(sealed, None) if sealed is not None else None
        except InvalidTag:
            return None

    def _open_1(self, text: str) -> TurnId | None:
        sealed = _decoded(text, PREFIX_1, _MAC_1 + _HEAD_1.size)
        if sealed is None:
            return None
        mac, body = sealed[:_MAC_1], sealed[_MAC_1:]
        if not hmac.compare_digest(hmac.digest(self._key, _CONTEXT_1 + body, "sha256")[:_MAC_1], mac):
            return None
        _, arm, adapter, cut = _HEAD_1.unpack_from(body)
        tenant, conversation = _names(body[_HEAD_1.size :], cut)
        return TurnId(
            tenant, conversation, "candidate" if arm else "incumbent", adapter.hex() if any(adapter) else None
        )


def _names(names: bytes, cut: int) -> tuple[str, str]:
    return names[:cut].decode(), names[cut:].decode()


def _decoded(text: str, prefix: str, least: int) -> bytes | None:
    """The bytes of an id in its one canonical spelling, long enough to hold every fixed field."""
    if not text.startswith(prefix) or len(text) > 300 or not text.isascii():
        return None
    code = text.removeprefix(prefix)
    try:
        sealed = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    canonical = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    return sealed if canonical == code and len(sealed) >= least else None
