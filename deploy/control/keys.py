"""Bearer keys: who may do what, for which tenant. A token is shown once and stored as its sha256."""

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
from deploy.errors import Failed
from deploy.text import plain

SCOPES = ("chat", "feedback", "ingest", "label", "read", "operate", "approve")
"""What a key may allow; none of them implies another."""

PREFIX = "tt_"
MAX_TOKEN_LENGTH = 200


@dataclass(frozen=True)
class Key:
    """A bearer key without its token."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[str]
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None

    def allows(self, scope: str) -> bool:
        return scope in self.scopes

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
        tenant: str,
        allowed: Iterable[str],
        actor: str,
        now_us: int,
        expires_at_us: int | None = None,
    ) -> tuple[str, Key]:
        """A new key and its token, which can't be shown again. Raises Failed on an unknown scope or an empty name."""
        key = Key(secrets.token_hex(4), name.strip(), tenant.strip(), frozenset(allowed), now_us, expires_at_us)
        _check(key)
        token = PREFIX + secrets.token_urlsafe(32)
        scopes = ",".join(sorted(key.scopes))
        row = {
            "id": key.id,
            "name": key.name,
            "tenant": key.tenant,
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
    if not key.name or not key.tenant:
        raise Failed("a key needs a name and a tenant: say who uses it, for example --name support-app")
    unknown = sorted(key.scopes - set(SCOPES))
    if unknown or not key.scopes:
        what = f"unknown scope {', '.join(unknown)}" if unknown else "a key needs at least one scope"
        raise Failed(f"{what}: there are {', '.join(SCOPES)}")
    if key.expires_at_us is not None and key.expires_at_us <= key.created_at_us:
        raise Failed("the key would be expired from the start: choose a later time")


def _by_id(connection: Connection, key_id: str) -> Key:
    known = plain(key_id)  # what is half a character, or none, can't be asked of a database
    row = connection.execute(select(schema.keys).where(schema.keys.c.id == known)).one_or_none()
    if row is None:
        raise Failed(f"there is no key {key_id[:20]!r}: `trimtab keys ls` lists them by id")
    return _key(row)


def _key(row: Any) -> Key:
    return Key(
        row.id, row.name, row.tenant, frozenset(row.scopes.split(",")), row.created_at_us, row.expires_at_us, row.revoked_at_us
    )  # fmt: skip


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
