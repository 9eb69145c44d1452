"""The wire contract: bytes in, a Turn or a Rating out, or Rejected with a reason that names the field.

One event is one JSON object. Unknown fields are kept in `extra`. Nothing is guessed: what does not fit is rejected, and
the caller keeps the original bytes as a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter, is_not
from typing import Any, get_args

import msgspec
from msgspec.structs import asdict, astuple, fields, replace

from feedback import topics
from feedback.intake.decoding import MAX_EVENT_BYTES as MAX_EVENT_BYTES
from feedback.intake.decoding import load, written_keys
from feedback.intake.loose import loosened, picked, whole
from feedback.intake.messages import ROLES as ROLES
from feedback.intake.messages import check_messages
from feedback.intake.refusal import Code as Code
from feedback.intake.refusal import Refusal, shown
from feedback.intake.refusal import Rejected as Rejected
from feedback.intake.times import time_us as time_us
from feedback.intake.wire import DEFAULT_TENANT, SCHEMA, WireRating, WireTurn
from feedback.records import Pick, Rating, RatingKind, Score, Signal, Turn

MAX_ID_CHARACTERS = 256
MAX_TAGS = 32
MAX_AHEAD_US = 3_600_000_000  # clocks may disagree by an hour
OLDEST_US = 946_684_800_000_000  # 2000-01-01

NEEDS_TURN = frozenset({"thumbs", "pick", "edit", "signal"})
SIGNALS = frozenset(get_args(Signal))
REPLACED = "replaced_surrogates"
"""In the `extra` of an event: how many halves of surrogate pairs in it were replaced by U+FFFD."""

Wire = WireTurn | WireRating
_KINDS: dict[str, type[WireTurn] | type[WireRating]] = {"turn": WireTurn, "rating": WireRating}
_FIELDS = {kind: {*wire.__struct_fields__, "event"} for kind, wire in _KINDS.items()}
_DEFAULTS = {wire: tuple(field.default for field in fields(wire)) for wire in _KINDS.values()}
_COMMON_IDS = ("event_id", "conversation_id", "tenant", "turn_id", "user_id", "locale")
_IDS = {WireTurn: (*_COMMON_IDS, "policy", "replaces"), WireRating: (*_COMMON_IDS, "rubric")}
_ids_of = {wire: attrgetter(*names) for wire, names in _IDS.items()}
_decode: Callable[[bytes], Wire] = msgspec.json.Decoder(Wire).decode
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PATH = re.compile(r" - at (?:key in )?`\$\.?(.*?)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")


def topic_of(event: Turn | Rating) -> str:
    """The topic that an event belongs to."""
    return topics.TURNS if isinstance(event, Turn) else topics.RATINGS


def parse(raw: bytes, now_us: int) -> Turn | Rating | Rejected:
    """The event that `raw` holds, as it was sent (not yet redacted; `bucket` not yet stamped)."""
    try:
        return _event(*(_decoded(raw) or _converted(*load(raw))), now_us)
    except Refusal as refusal:
        return refusal.rejected


def parse_sent(raw: bytes, now_us: int, tenant: str) -> Turn | Rating | Rejected:
    """Like `parse`, for what somebody sends whose key is of `tenant`: it is that tenant's, and evidence for no rollout."""
    try:
        wire, extra = _decoded(raw) or _converted(*_unclaimed(*load(raw)))
        return _sent(_event(wire, extra, now_us), tenant, named=wire.tenant is not DEFAULT_TENANT)
    except Refusal as refusal:
        return refusal.rejected


def parse_object(document: dict[str, Any], now_us: int) -> Turn | Rating | Rejected:
    """Like `parse`, for a document that is already decoded."""
    try:
        return _event(*_converted(document), now_us)
    except Refusal as refusal:
        return refusal.rejected


def typed_value(kind: RatingKind, value: Any) -> Any:
    """A rating's JSON value as a RatingValue; raises ValueError with a sentence when it does not fit its kind."""
    if value is None:
        return None
    match kind:
        case "thumbs":
            if isinstance(value, bool):
                return value
            raise ValueError("thumbs take true or false")
        case "stars":
            stars = whole(value)
            if isinstance(stars, int) and not isinstance(stars, bool) and 1 <= stars <= 5:
                return stars
            raise ValueError("stars take a whole number from 1 to 5")
        case "pick":
            return _struct(picked(value), Pick, 'a pick takes {"over": turn_id, "tie": true or false}')
        case "score":
            score = _struct(value, Score, 'a score takes {"name": text, "value": 0..1}')
            if not 0 <= score.value <= 1:
                raise ValueError("a score's value lies between 0 and 1")
            return score
        case "signal":
            if isinstance(value, str) and value in SIGNALS:
                return value
            raise ValueError(f"a signal is one of {', '.join(sorted(SIGNALS))}")
        case "edit" | "comment":
            if isinstance(value, str):
                return value
            raise ValueError(f"{'an edit' if kind == 'edit' else 'a comment'} takes text")


def _decoded(raw: bytes) -> tuple[Wire, dict[str, Any]] | None:
    """Most events have our fields and no others; None where that is not so: `load` and convert them."""
    try:
        wire = _decode(raw) if len(raw) <= MAX_EVENT_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if wire is None or wire.schema != SCHEMA:
        return None
    if _may_repeat_keys(raw, wire):
        load(raw)  # raises where one is
    return wire, {}


def _may_repeat_keys(raw: bytes, wire: Wire) -> bool:
    """Whether more keys may be written than there are. One that was not written has its default, the very same object."""
    keys = sum(map(is_not, astuple(wire), _DEFAULTS[type(wire)]))  # and `event`, but for `tags`, which are always new
    if wire.tags:
        keys += 1 + len(wire.tags)
    if isinstance(wire, WireTurn):
        keys += sum(map(len, wire.messages)) + len(wire.usage or ())
    return raw.count(b":") > keys and written_keys(raw) > keys


def _converted(document: dict[str, Any], replaced: int = 0) -> tuple[Wire, dict[str, Any]]:
    """An event's fields, and whatever else it says."""
    kind = document.get("event")
    if kind is None:
        raise Refusal("missing_field", "event", "event is missing ('turn' or 'rating')")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Refusal("unknown_kind", "event", f"event is {shown(kind)}; known are 'turn' and 'rating'")
    schema = document.get("schema", SCHEMA)
    if schema != SCHEMA or isinstance(schema, bool):
        raise Refusal("unknown_schema", "schema", f"schema is {shown(schema)}; known is {SCHEMA}")
    known, extra = document, dict[str, Any]()
    if not document.keys() <= _FIELDS[kind]:
        known = {name: value for name, value in document.items() if name in _FIELDS[kind]}
        extra = {name: value for name, value in document.items() if name not in _FIELDS[kind]}
        inner = extra.pop("extra", {})
        extra = {**(inner if isinstance(inner, dict) else {"extra": inner}), **extra}
    if replaced:
        extra = {**extra, REPLACED: replaced}
    try:
        return msgspec.convert(known, _KINDS[kind]), extra
    except msgspec.ValidationError:
        return _loosely(known, _KINDS[kind]), extra


def _loosely(known: dict[str, Any], kind: type[WireTurn] | type[WireRating]) -> Wire:
    try:
        return msgspec.convert(loosened(known), kind)
    except msgspec.ValidationError as error:
        raise _explained(error) from None


def _event(wire: Wire, extra: dict[str, Any], now_us: int) -> Turn | Rating:
    _check_ids(wire)
    said = asdict(wire)
    del said["schema"], said["occurred_at"]
    said["occurred_at_us"], said["extra"] = _checked_time(wire.occurred_at, now_us), extra
    if isinstance(wire, WireTurn):
        check_messages(wire)
        return Turn(**said)
    if wire.turn_id is None and wire.kind in NEEDS_TURN:
        raise Refusal("missing_field", "turn_id", f"turn_id is missing: {wire.kind} speaks of one reply")
    try:
        said["value"] = typed_value(wire.kind, wire.value)
    except ValueError as error:
        raise Refusal("bad_value", "value", f"value is {shown(wire.value)}: {error}") from None
    return Rating(**said)


def _unclaimed(document: dict[str, Any], replaced: int) -> tuple[dict[str, Any], int]:
    """A rating knows no `rollout`: it is not kept as extra either."""
    if document.get("event") == "rating":
        document.pop("rollout", None)
    return document, replaced


def _sent(event: Turn | Rating, tenant: str, named: bool) -> Turn | Rating:
    """`named`: the event says itself whose it is (one that does not has the default, the very same object)."""
    if named and event.tenant != tenant:
        raise Refusal("bad_value", "tenant", f"tenant is another than the key's, {tenant!r}")
    if event.tenant != tenant:
        _check_each_id([("tenant", tenant)])
        event = replace(event, tenant=tenant)
    return without_claim(event)


def without_claim(event: Turn | Rating) -> Turn | Rating:
    """What others wrote can't be rollout evidence: only what our gateway stamped and signed is."""
    return replace(event, rollout=None) if isinstance(event, Turn) and event.rollout is not None else event


def _check_ids(wire: Wire) -> None:
    if wire.locale == "":  # many know of none, and say so
        wire.locale = None
    ids = [value for value in _ids_of[type(wire)](wire) if value is not None]
    together = "".join(ids)
    if not together.isprintable() or "" in ids or len(together) > MAX_ID_CHARACTERS:  # look closer
        _check_each_id([(name, value) for name in _IDS[type(wire)] if (value := getattr(wire, name)) is not None])
    if len(wire.tags) > MAX_TAGS:
        raise Refusal("bad_value", "tags", f"{len(wire.tags)} tags; at most {MAX_TAGS} are taken")


def _check_each_id(ids: list[tuple[str, str]]) -> None:
    if _CONTROL.search("".join([value for _, value in ids])) is not None:
        name = next(name for name, value in ids if _CONTROL.search(value))
        raise Refusal("bad_value", name, f"{name} holds a control character")
    for name, value in ids:
        if not value:
            raise Refusal("bad_value", name, f"{name} is empty")
        if len(value) > MAX_ID_CHARACTERS:
            raise Refusal(
                "bad_value", name, f"{name} has {len(value)} characters; at most {MAX_ID_CHARACTERS} are taken"
            )


def _checked_time(value: str | float, now_us: int) -> int:
    try:
        at_us = time_us(value)
    except ValueError as error:
        raise Refusal("bad_value", "occurred_at", f"occurred_at is {shown(whole(value))}: {error}") from None
    if at_us < OLDEST_US:
        raise Refusal("too_old", "occurred_at", f"occurred_at is {shown(whole(value))}: before the year 2000")
    if at_us > now_us + MAX_AHEAD_US:
        raise Refusal(
            "future", "occurred_at", f"occurred_at is {shown(whole(value))}: more than an hour ahead of the clock"
        )
    return at_us


def _explained(error: msgspec.ValidationError) -> Refusal:
    text = str(error)
    if missing := _MISSING.search(text):
        return Refusal("missing_field", missing[1], f"{missing[1]} is missing")
    path = _PATH.search(text)
    field = path[1] if path else ""
    sentence = _PATH.sub("", text)
    code: Code = "bad_value" if sentence.startswith("Invalid enum") else "wrong_type"
    return Refusal(code, field, f"{field}: {sentence[:1].lower()}{sentence[1:]}")


def _struct(value: Any, kind: type[Any], rule: str) -> Any:
    if isinstance(value, kind):
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ValueError(rule) from None
