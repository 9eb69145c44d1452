"""Open WebUI's exports: chats, whose messages are a tree, with thumbs in annotations; and feedback, with arena picks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from feedback.intake.event_files import Line
from feedback.intake.foreign.converting import Conversion, NotThis, documents, looks_like

MAX_DEPTH = 10_000


def read(path: Path, conversion: Conversion) -> Iterator[Line]:
    """The events of a file of chats or of feedback; raises NotThis."""
    for number, document in documents(path, conversion):
        if not isinstance(document, dict):
            conversion.lose("no chat and no feedback", f"entry {number}")
        elif isinstance(document.get("data"), dict) and isinstance(document.get("meta"), dict):
            yield from _feedback(document, number, conversion)
        elif (messages := _messages(document)) is not None:
            yield from _chat(document, messages, number, conversion)
        else:
            if (what := looks_like(document)) is not None and not what.startswith("Open WebUI"):
                raise NotThis(f"{path.name}, entry {number}, looks like {what}")
            conversion.lose("no chat and no feedback", f"entry {number}")


def _messages(document: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The tree of a chat, by message id."""
    chat = document.get("chat")
    history = chat.get("history") if isinstance(chat, dict) else None
    messages = history.get("messages") if isinstance(history, dict) else None
    if not isinstance(messages, dict):
        return None
    return {name: message for name, message in messages.items() if isinstance(message, dict)}


def _chat(
    document: Mapping[str, Any], messages: dict[str, dict[str, Any]], number: int, conversion: Conversion
) -> Iterator[Line]:
    chat, user = str(document.get("id") or f"chat-{number}"), document.get("user_id")
    for name, message in messages.items():
        if message.get("role") != "assistant":
            continue
        context = _context(messages, message)
        if context is None:
            conversion.lose("a reply whose earlier messages are missing", f"entry {number}")
            continue
        at = _seconds(message.get("timestamp") or document.get("updated_at") or document.get("created_at"))
        common = {
            "conversation_id": chat, "turn_id": name, "occurred_at": at,
            "user_id": user if isinstance(user, str) else None,
        }  # fmt: skip
        failed = bool(message.get("error"))
        made = conversion.event(
            number, **common, event="turn", event_id=f"{chat}/{name}", messages=context,
            reply=_text(message), policy=str(message.get("model") or conversion.policy),
            replaces=_replaced(messages, name, message), outcome="error" if failed else None,
        )  # fmt: skip
        yield from filter(None, [made])
        said = message.get("annotation")
        yield from _said(said if isinstance(said, dict) else {}, common, number, conversion)


def _feedback(document: Mapping[str, Any], number: int, conversion: Conversion) -> Iterator[Line]:
    data, meta, snapshot = document["data"], document["meta"], document.get("snapshot")
    chat, message = meta.get("chat_id"), meta.get("message_id")
    if not isinstance(chat, str) or not isinstance(message, str):
        conversion.lose("feedback that names no chat and message", f"entry {number}")
        return
    inner = snapshot.get("chat") if isinstance(snapshot, dict) else None
    messages = _messages(inner) if isinstance(inner, dict) else None
    if messages is not None and isinstance(inner, dict):
        bare = {name: {**one, "annotation": None} for name, one in messages.items()}
        yield from _chat({**inner, "id": chat}, bare, number, conversion)
    user = document.get("user_id")
    common = {
        "conversation_id": chat, "turn_id": message, "user_id": user if isinstance(user, str) else None,
        "occurred_at": _seconds(document.get("updated_at") or document.get("created_at")),
    }  # fmt: skip
    yield from _said(data, common, number, conversion)
    if data.get("sibling_model_ids"):
        yield from _pick(data, common, messages or {}, number, conversion)


def _said(said: Mapping[str, Any], common: Mapping[str, Any], number: int, conversion: Conversion) -> Iterator[Line]:
    """Thumbs and a comment. Reasons that were ticked come as a comment where nothing was written."""
    name = f"{common['conversation_id']}/{common['turn_id']}"
    rating, comment = said.get("rating"), said.get("comment") or said.get("reason")
    if str(rating) in ("1", "-1"):
        yield from filter(None, [conversion.event(
            number, **common, event="rating", event_id=f"{name}/thumbs", source="user", kind="thumbs", value=str(rating) == "1",
        )])  # fmt: skip
    elif rating is not None:
        conversion.lose("a rating that is neither 1 nor -1", f"entry {number}")
    if isinstance(comment, str) and comment.strip():
        yield from filter(None, [conversion.event(
            number, **common, event="rating", event_id=f"{name}/comment", source="user", kind="comment", value=comment,
        )])  # fmt: skip


def _pick(
    data: Mapping[str, Any],
    common: Mapping[str, Any],
    messages: dict[str, dict[str, Any]],
    number: int,
    conversion: Conversion,
) -> Iterator[Line]:
    """The rated reply over each of its siblings, or each of them over it."""
    turn = common["turn_id"]
    parent = messages.get(turn, {}).get("parentId")
    beside = (
        [name for name, one in messages.items() if one.get("parentId") == parent and name != turn] if parent else []
    )
    if not beside or str(data.get("rating")) not in ("1", "-1"):
        conversion.lose("an arena pick whose other reply is not in the file", f"entry {number}")
    for other in beside:
        won, over = (turn, other) if str(data["rating"]) == "1" else (other, turn)
        yield from filter(None, [conversion.event(
            number, **{**common, "turn_id": won}, event="rating", event_id=f"{common['conversation_id']}/{won}/over/{over}",
            source="user", kind="pick", value={"over": over, "tie": False},
        )])  # fmt: skip


def _context(messages: Mapping[str, dict[str, Any]], message: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What a reply answers, oldest first; None where a parent is missing, or its own ancestor."""
    found, seen = list[dict[str, Any]](), set[str]()
    parent = message.get("parentId")
    while isinstance(parent, str):
        if parent in seen or parent not in messages or len(seen) > MAX_DEPTH:
            return None
        seen.add(parent)
        earlier = messages[parent]
        found.append({"role": str(earlier.get("role")), "content": _text(earlier)})
        parent = earlier.get("parentId")
    return found[::-1] or None


def _replaced(messages: Mapping[str, dict[str, Any]], name: str, message: Mapping[str, Any]) -> str | None:
    """The reply by the same model to the same message that came before this one."""
    parent = messages.get(str(message.get("parentId")), {})
    order = parent.get("childrenIds")
    if not isinstance(order, list) or name not in order:
        return None
    before = [one for one in order[: order.index(name)] if isinstance(one, str) and one in messages]
    same = [one for one in before if messages[one].get("model") == message.get("model")]
    return same[-1] if same else None


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _seconds(at: Any) -> float | None:
    """Open WebUI writes seconds, and in places milliseconds or nanoseconds."""
    if isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return at / 1e9 if at > 1e17 else at / 1e3 if at > 1e11 else at
