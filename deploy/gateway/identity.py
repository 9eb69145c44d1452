"""Whose turn this is: conversation, user, locale and tags of a chat request, as its sender names them.

A client that names no conversation gets one from the beginning of its messages: a hash over tenant, user and all
messages up to and with the first one by a user. Every follow-up repeats that beginning, so it lands in the same
conversation, on any gateway and after a restart, and nothing need be remembered. The price: two people for whom the
client names no user and who open with the very same words share a conversation (and with it an arm), and a client that
cuts off the oldest messages changes conversation when it does. Naming `metadata.conversation_id` avoids both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct

from deploy.gateway.turn_ids import MAX_NAMES_BYTES
from deploy.web.errors import bad
from feedback.intake.contract import MAX_ID_CHARACTERS, MAX_TAGS
from feedback.records import Message

HEADER = "X-Trimtab-Conversation"
MAX_METADATA = MAX_TAGS + 2
_PLAIN = re.compile(r"[\w-]*", re.ASCII)
_json_text = json.encoder.encode_basestring_ascii
MAX_BEGINNING = 200_000
"""Characters that tell a conversation's beginning from another's: nobody waits while megabytes are hashed."""
MAX_PART = 50_000
"""The same of a text within a part, or of a picture."""
_encode = msgspec.json.Encoder(order="sorted").encode
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
NAMED = frozenset({"conversation_id", "locale"})
"""Keys of `metadata` with a meaning here; every other one is a tag."""


class Identity(Struct, frozen=True):
    """Who talks where. `user_id` is the raw id: it goes to the edge and nowhere else."""

    conversation_id: str
    user_id: str | None
    locale: str | None
    tags: dict[str, str]


def identify(tenant: str, body: Mapping[str, Any], messages: Sequence[Message], header: str | None) -> Identity:
    """The identity of a chat request; `header` is that of X-Trimtab-Conversation. Raises ApiError naming the field."""
    checked_id(tenant, "tenant")  # what a key is bound to was typed by somebody
    metadata = _metadata(body.get("metadata"))
    user_id = user_of(body)
    named = checked_id(metadata.get("conversation_id"), "metadata.conversation_id")
    if named is None and header is not None:
        named = checked_id(unquote(header, errors="replace").strip(), HEADER)
    conversation_id = named if named is not None else beginning_of(tenant, user_id, messages)
    room = MAX_NAMES_BYTES - len(tenant.encode())
    if len(conversation_id.encode()) > room:
        raise bad(f"the conversation id has more than {room} bytes", "metadata.conversation_id")
    tags = {name: value for name, value in metadata.items() if name not in NAMED}
    if len(tags) > MAX_TAGS:
        raise bad(f"{len(tags)} tags; at most {MAX_TAGS} are taken", "metadata")
    return Identity(conversation_id, user_id, checked_id(metadata.get("locale"), "metadata.locale"), tags)


def user_of(body: Mapping[str, Any]) -> str | None:
    """The raw id of the user whom a chat request names. Raises ApiError naming the field."""
    return checked_id(body.get("safety_identifier"), "safety_identifier") or checked_id(body.get("user"), "user")


def beginning_of(tenant: str, user_id: str | None, messages: Sequence[Message]) -> str:
    """The conversation that begins like this: `c-` and 32 hex digits, the same for every later turn of it."""
    user = "null" if user_id is None else _json_text(user_id)
    chain, room = hashlib.sha256(f"[{_json_text(tenant)}, {user}]".encode()).digest(), MAX_BEGINNING
    for message in messages:
        content, room = _shortened(message.get("content"), room)
        role = message.get("role")
        if isinstance(content, str) and isinstance(role, str):  # the same, sooner
            link = f"[{_json_text(role)}, {_json_text(content)}]"
        else:
            link = json.dumps([role, content], sort_keys=True)
        chain = hashlib.sha256(chain + link.encode()).digest()
        if message.get("role") == "user":
            break
    return f"c-{chain.hex()[:32]}"


def _shortened(content: Any, room: int) -> tuple[Any, int]:
    """Of a text the first `room` characters and how long it is, where it is longer; and the room that is left.

    Of parts that are longer, both ends; of a picture too, so that megabytes of it are not even encoded.
    """
    if isinstance(content, list):
        parts = [_ends(part) for part in content]
        raw = _encode(parts)
        if len(raw) <= room:
            return parts, room - len(raw)
        return [*(end.decode("utf-8", "replace") for end in _both(raw, room // 2)), len(raw)], 0
    if not isinstance(content, str) or len(content) <= room:
        return content, room - (len(content) if isinstance(content, str) else 0)
    return [content[:room], len(content)], 0


def _ends(value: Any, deep: int = 2) -> Any:
    """With the ends and the length of a text that is long, where it is no deeper than data in a part are."""
    if isinstance(value, str):
        return [*_both(value, MAX_PART // 2), len(value)] if len(value) > MAX_PART else value
    if isinstance(value, dict) and deep:
        return {name: _ends(inner, deep - 1) for name, inner in value.items()}
    return value


def _both(whole: Any, length: int) -> tuple[Any, Any]:
    return whole[:length], whole[len(whole) - length :]


def checked_id(value: Any, param: str) -> str | None:
    """An optional id as text that may go into a record; raises ApiError naming `param`. Empty counts as none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise bad(f"{param} must be a string", param, "invalid_type")
    if len(value) > MAX_ID_CHARACTERS:
        raise bad(f"{param} has {len(value)} characters; at most {MAX_ID_CHARACTERS} are taken", param)
    if _CONTROL.search(value):
        raise bad(f"{param} holds a control character", param)
    return value


def header_value(text: str) -> str:
    """An id as it may stand in a header: what is not plain ASCII is percent-encoded (and read back so)."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe="!#$&'*+-./:;=?@^_`|~")


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise bad("metadata must be an object of strings", "metadata", "invalid_type")
    if len(value) > MAX_METADATA:
        raise bad(f"metadata has {len(value)} keys; at most {MAX_METADATA} are taken", "metadata")
    for name, text in value.items():
        if len(name) > 64 or len(text) > 512:
            raise bad("metadata takes keys up to 64 characters and values up to 512", "metadata")
    return value
