"""The edge: where an event enters the house. Validates, redacts, hashes the user id, stamps the split bucket, signs.

What comes out is safe to keep: the log, the facts and the judge see nothing else. A record with our signature passes
the ingest hop as it is; any other record on the topics is treated there exactly as it would be here. What goes between us
and the judge is ours alone: without a signature it is refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from feedback import splits
from feedback.digests import MASK, masked
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.privacy.ids import PersonalIds, may_be_personal
from feedback.privacy.redact import Redactor
from feedback.records import Judgement, JudgeRequest, Message, Origin, Pick, Rating, Turn

SIGNATURE_HEADER = "trimtab-edge"
Event = TypeVar("Event", bound=Turn | Rating)

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode: Callable[[bytes], Turn | Rating] = msgspec.json.Decoder(Turn | Rating).decode


class Record(Struct, frozen=True, gc=False):
    """What a producer sends: `key` decides the partition, so that one conversation stays in order."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Edge:
    """Makes records of events under one deployment's key. Cheap to keep: it remembers texts it has redacted."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._redactor = Redactor(key)
        self._personal_ids = PersonalIds(key)

    def record(self, raw: bytes, now_us: int, origin: Origin = "ingest") -> Record | Rejected:
        """The record of an event's bytes, or why they are none."""
        event = contract.parse(raw, now_us)
        if isinstance(event, Rejected):
            return event
        event = contract.without_claim(event)
        return self.signed(
            self.redacted(event if event.origin == origin else msgspec.structs.replace(event, origin=origin))
        )

    def record_of(self, document: dict[str, Any], now_us: int) -> Record | Rejected:
        """Like `record`, for an event that is already a JSON object."""
        event = contract.parse_object(document, now_us)
        return event if isinstance(event, Rejected) else self.signed(self.redacted(event))

    def admit(self, value: bytes, headers: tuple[tuple[str, bytes], ...], now_us: int) -> Turn | Rating | Rejected:
        """The event of a record on a topic: what this edge signed as it is, anything else redacted here."""
        signature = dict(headers).get(SIGNATURE_HEADER) if headers else None
        if signature is not None and hmac.compare_digest(signature, self._sign(value)):
            event = _decode(value)
            if isinstance(event, Rating):
                return msgspec.structs.replace(event, value=contract.typed_value(event.kind, event.value))
            return event
        parsed = contract.parse(value, now_us)
        return parsed if isinstance(parsed, Rejected) else self.redacted(contract.without_claim(parsed))

    def user(self, raw: str) -> str:
        """What stands for this user id in every record."""
        return self._redactor.user(raw)

    def kept(self, raw_id: str) -> str:
        """What stands for the id of a conversation, turn or event in every record."""
        return self._personal_ids.kept(raw_id)

    def reply(self, reply: str | Message, work_us: int | None = None, locale: str | None = None) -> str | Message:
        """A reply without personal data. Raises TooMuchWork where it may take more than `work_us`."""
        redactor = self._within(work_us)
        return redactor.text(reply, locale) if isinstance(reply, str) else redactor.message(reply, locale)

    def redacted(self, event: Event, work_us: int | None = None) -> Event:
        """The event without personal data, with hashed user id and stamped bucket.

        Raises TooMuchWork where what is not remembered may take more than `work_us` microseconds.
        """
        return self.stamped(event, self._within(work_us).parts(parts_of(event)))

    def stamped(self, event: Event, redacted: dict[str, Any]) -> Event:
        """The event with its `parts_of` as they were redacted, with hashed user id and stamped bucket."""
        return msgspec.structs.replace(
            event,
            bucket=splits.bucket(event.user_id or event.conversation_id, event.tenant),
            user_id=None if event.user_id is None else self._redactor.user(event.user_id),
            **redacted,
            **self._ids(event),
        )

    def _ids(self, event: Turn | Rating) -> dict[str, Any]:
        """What stands for the event's ids: no change for nearly all."""
        named = (event.event_id, event.conversation_id, event.turn_id or "", getattr(event, "replaces", None) or "")
        if not may_be_personal("\n".join(named)) and not isinstance(getattr(event, "value", None), Pick):
            return {}
        kept = self._personal_ids.kept
        ids: dict[str, Any] = {"event_id": kept(event.event_id), "conversation_id": kept(event.conversation_id)}
        if event.turn_id is not None:
            ids["turn_id"] = kept(event.turn_id)
        if isinstance(event, Turn):
            return ids if event.replaces is None else ids | {"replaces": kept(event.replaces)}
        if isinstance(event.value, Pick):
            return ids | {"value": msgspec.structs.replace(event.value, over=kept(event.value.over))}
        return ids

    def _within(self, work_us: int | None) -> Redactor:
        return self._redactor if work_us is None else self._redactor.within(work_us)

    def signed(self, event: Turn | Rating, messages: msgspec.Raw | None = None) -> Record:
        """The record of an event that was `redacted`; its signature says so. `messages`: a turn's as `encoded` already."""
        value = _encode(event if messages is None else msgspec.structs.replace(event, messages=messages))
        key = f"{event.tenant}/{event.conversation_id}".encode()
        return Record(contract.topic_of(event), key, value, ((SIGNATURE_HEADER, self._sign(value)),))

    def vouched(self, topic: str, said: JudgeRequest | Judgement) -> Record:
        """The record of a question for the judge or of its answer, signed for this topic alone."""
        value = msgspec.json.encode(said)
        key = f"{said.tenant}/{said.conversation_id}".encode()
        return Record(topic, key, value, ((SIGNATURE_HEADER, self._sign(_on(topic, value))),))

    def refusal(self, topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...]) -> Rejected | None:
        """Why a question or an answer is not believed; None for one that was `vouched` for here."""
        signature = dict(headers).get(SIGNATURE_HEADER, b"")
        if hmac.compare_digest(signature, self._sign(_on(topic, value))):
            return None
        return Rejected("unsigned", "", f"what stands on {topic} is ours alone, and our signature is not on this")

    def _sign(self, value: bytes) -> bytes:
        return hmac.digest(self._key, value, "sha256")


def _on(topic: str, value: bytes) -> bytes:
    """No event begins like that, so that no event's signature is one of these, nor one topic's another's."""
    return topic.encode() + b"\0" + value


def encoded(messages: Sequence[Message]) -> msgspec.Raw:
    """Messages as they stand in a record: by far the most of it, so that a turn that is recorded twice has them made once."""
    return msgspec.Raw(_encode(messages))


def parts_of(event: Turn | Rating) -> dict[str, Any]:
    """What of an event may hold personal data and is redacted, by field; `locale` says in which country's way."""
    parts: dict[str, Any] = {"tags": event.tags, "extra": event.extra, "locale": event.locale}
    if isinstance(event, Turn):
        return parts | {"reply": event.reply, "messages": event.messages}
    return parts | {"value": event.value} if event.kind in ("edit", "comment") and event.value is not None else parts


def content_hash(event: Turn | Rating) -> str:
    """Hash of what an event says, hex; no hashed id is part of it, so that it does not depend on the key, nor which way it
    came."""
    return hashlib.sha256(
        _encode(msgspec.structs.replace(event, user_id=None, origin="ingest", **_masked(event)))
    ).hexdigest()


def _masked(event: Turn | Rating) -> dict[str, Any]:
    """The ids that were hashed, alike."""
    names = ("event_id", "conversation_id", "turn_id", *(("replaces",) if isinstance(event, Turn) else ()))
    ids = {name: masked(kept) for name in names if (kept := getattr(event, name)) is not None and kept.startswith(MASK)}
    if isinstance(event, Rating) and isinstance(event.value, Pick):
        return ids | {"value": msgspec.structs.replace(event.value, over=masked(event.value.over))}
    return ids
