"""Turn ids that prove themselves: what a reply was, sealed, so that feedback on it needs neither look-up nor login.

`tt1-` and base64url of: mac (16 bytes) | nonce (9) | arm (1) | first half of the adapter's digest (8; zeros: the bare
base) | length of the tenant (1) | tenant | conversation. The mac is HMAC-SHA256 under the deployment's key over all
that follows it, cut to 128 bits. Sealed, not secret: whoever holds an id can read the conversation's id in it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from deploy.rules.assignment import Arm

PREFIX = "tt1-"
MAX_NAMES_BYTES = 150
"""Most UTF-8 bytes of tenant and conversation together: an id then stays below the contract's 256 characters."""

_CONTEXT = b"trimtab turn id 1\0"
_MAC, _NONCE = 16, 9
_HEAD = _NONCE + 1 + 8 + 1
_ARMS: dict[Arm, int] = {"incumbent": 0, "candidate": 1}


@dataclass(frozen=True)
class TurnId:
    """What a turn id says. `adapter`: the first 16 hex digits of the digest, None for the bare base."""

    tenant: str
    conversation_id: str
    arm: Arm
    adapter: str | None


class TurnIds:
    """Seals and opens turn ids under one key."""

    def __init__(self, key: bytes, nonce: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._key, self._nonce = key, nonce

    def seal(self, turn: TurnId) -> str:
        """A fresh id for a turn. Raises ValueError when tenant and conversation are too long."""
        tenant, conversation = turn.tenant.encode(), turn.conversation_id.encode()
        if len(tenant) + len(conversation) > MAX_NAMES_BYTES:
            raise ValueError(f"tenant and conversation_id together have more than {MAX_NAMES_BYTES} bytes")
        adapter = bytes.fromhex(turn.adapter[:16]) if turn.adapter is not None else bytes(8)
        arm = bytes([_ARMS[turn.arm]])
        body = self._nonce(_NONCE) + arm + adapter + bytes([len(tenant)]) + tenant + conversation
        return PREFIX + base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode()

    def open(self, text: str) -> TurnId | None:
        """What the id says; None when it was not sealed under this key."""
        sealed = _decoded(text)
        if sealed is None or not hmac.compare_digest(self._mac(sealed[_MAC:]), sealed[:_MAC]):
            return None
        body = sealed[_MAC:]
        arm: Arm = "candidate" if body[_NONCE] == _ARMS["candidate"] else "incumbent"
        adapter, names, cut = body[_NONCE + 1 : _HEAD - 1], body[_HEAD:], body[_HEAD - 1]
        return TurnId(names[:cut].decode(), names[cut:].decode(), arm, adapter.hex() if any(adapter) else None)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, _CONTEXT + body, "sha256")[:_MAC]


def _decoded(text: str) -> bytes | None:
    """The bytes of an id in its one canonical spelling, long enough to hold every fixed field."""
    if not text.startswith(PREFIX) or len(text) > 300 or not text.isascii():
        return None
    code = text.removeprefix(PREFIX)
    try:
        sealed = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    canonical = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    return sealed if canonical == code and len(sealed) >= _MAC + _HEAD else None
