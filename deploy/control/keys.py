"""Bearer keys: who may do what, for which tenant. A token is shown once and stored as its sha256.

A key that is bound to a tenant sees and does nothing beyond it. What acts on the deployment as a whole needs a key without a
tenant; one that is bound and has such a scope all the same (earlier versions made them) has it without effect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from deploy.control import schema
from deploy.control.database import Database
from deploy.control.history import Entry, append
from deploy.errors import Failed, Refused
from deploy.text import plain

SCOPES = ("chat", "feedback", "ingest", "label", "read", "operate", "approve")
"""What a key may allow; none of them implies another."""

DEPLOYMENT = frozenset({"operate", "approve"})
"""Scopes that act on the deployment as a whole, and so on every tenant's chats."""

PREFIX = "tt_"
MAX_TOKEN_LENGTH = 200
_NONE = ""
"""How no tenant is stored."""


@dataclass(frozen=True)
class Key:
    """A bearer key without its token. `tenant` None: it is bound to none, and what it sends is that of the tenant `default`."""

    id: str
    name: str
    tenant: str | None
    scopes: frozenset[str]
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None

    @property
    def effective(self) -> frozenset[str]:
        """The scopes that it opens."""
        return self.scopes if self.tenant is None else self.scopes - DEPLOYMENT

    @property
    def without_effect(self) -> frozenset[str]:
        """The scopes that it was given and does not open, as it is bound to a tenant."""
        return self.scopes - self.effective

    def allows(self, scope: str) -> bool:
        return scope in self.effective

    def valid(self, now_us: int) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at_us is None and (self.expires_at_us is None or now_us < self.expires_at_us)


class Keys:
    """The keys in the control database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        tenant: str | None,
        allowed: Iterable[str],
        actor: str,
        now_us: int,
        expires_at_us: int | None = None,
    ) -> tuple[str, Key]:
        """A new key and its token, which can't be shown again. Raises Failed on an unknown scope or an empty name, and
        Refused where it is bound to a tenant and shall act on the deployment."""
        bound = tenant.strip() if tenant is not None else None
        key = Key(secrets.token_hex(4), name.strip(), bound, frozenset(allowed), now_us, expires_at_us)
        _check(key)
        token = PREFIX + secrets.token_urlsafe(32)
        scopes = ",".join(sorted(key.scopes))
        row = {
            "id": key.id,
            "name": key.name,
            "tenant": key.tenant or _NONE,
            "scopes": scopes,
            "sha256": _sha256(token),
            "created_at_us": now_us,
            "expires_at_us": expires_at_us,
        }
        with self._database.write() as connection:
            connection.execute(insert(schema.keys).values(row))
            append(connection, Entry(now_us, actor, "keys create", key.id, None, scopes, name))
        return token, key

    def list(self) -> Sequence[Key]:
        """Every key, newest first, revoked and expired ones included."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.keys).order_by(schema.keys.c.created_at_us.desc()))
            return [_key(row) for row in rows]

    def exist(self) -> bool:
        """Whether there is a key that was not revoked. One that is expired counts: no door opens because time goes by."""
        asked = select(schema.keys.c.id).where(schema.keys.c.revoked_at_us.is_(None)).limit(1)
        with self._database.read() as connection:
            return connection.execute(asked).first() is not None

    def find(self, token: str, now_us: int) -> Key | None:
        """The valid key of this token, else None. Only hashes are compared, in constant time."""
        if not token.startswith(PREFIX) or len(token) > MAX_TOKEN_LENGTH:
            return None
        sha256 = _sha256(token)
        with self._database.read() as connection:
            row = connection.execute(select(schema.keys).where(schema.keys.c.sha256 == sha256)).one_or_none()
        if row is None or not hmac.compare_digest(row.sha256, sha256):
            return None
        key = _key(row)
        return key if key.valid(now_us) else None

    def revoke(self, key_id: str, actor: str, now_us: int, reason: str = "") -> Key:
        """From now on the key opens nothing; again is fine. Raises Failed when there is no such key."""
        with self._database.write() as connection:
            key = _by_id(connection, key_id)
            if key.revoked_at_us is None:
                connection.execute(update(schema.keys).where(schema.keys.c.id == key.id).values(revoked_at_us=now_us))
                append(
                    connection, Entry(now_us, actor, "keys revoke", key.id, ",".join(sorted(key.scopes)), None, reason)
                )
            return _by_id(connection, key_id)


def _check(key: Key) -> None:
    if not key.name:
        raise Failed("a key needs a name: say who uses it, for example --name support-app")
    if key.tenant == _NONE:
        raise Failed("a tenant needs a name: say which, or leave --tenant out for a key that is bound to none")
    unknown = sorted(key.scopes - set(SCOPES))
    if unknown or not key.scopes:
        what = f"unknown scope {', '.join(unknown)}" if unknown else "a key needs at least one scope"
        raise Failed(f"{what}: there are {', '.join(SCOPES)}")
    if key.expires_at_us is not None and key.expires_at_us <= key.created_at_us:
        raise Failed("the key would be expired from the start: choose a later time")
    if scopes := sorted(key.without_effect):
        raise Refused(
            f"{' and '.join(scopes)} {'act' if len(scopes) > 1 else 'acts'} on the deployment as a whole, and a key of the tenant "
            f"{key.tenant!r} acts on nothing beyond it: leave --tenant out, or the scope"
        )


def without_effect(key: Key) -> str | None:
    """What to do about a key whose scopes don't all open what they name; None where they do."""
    if not key.without_effect:
        return None
    scopes = sorted(key.without_effect)
    options = " ".join(f"--scope {scope}" for scope in scopes)
    return (
        f"the key {key.name!r} ({key.id}) is bound to the tenant {key.tenant!r}, and {' and '.join(scopes)} "
        f"{'act' if len(scopes) > 1 else 'acts'} on the whole deployment, so it no longer opens that: make one without a tenant "
        f"(`trimtab keys create --name … {options}`), then `trimtab keys revoke {key.id}`"
    )


def _by_id(connection: Connection, key_id: str) -> Key:
    known = plain(key_id)  # what is half a character, or none, can't be asked of a database
    row = connection.execute(select(schema.keys).where(schema.keys.c.id == known)).one_or_none()
    if row is None:
        raise Failed(f"there is no key {key_id[:20]!r}: `trimtab keys ls` lists them by id")
    return _key(row)


def _key(row: Any) -> Key:
    return Key(
        row.id, row.name, row.tenant or None, frozenset(row.scopes.split(",")), row.created_at_us, row.expires_at_us, row.revoked_at_us
    )  # fmt: skip


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
