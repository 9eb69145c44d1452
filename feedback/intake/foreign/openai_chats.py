"""Chats as OpenAI has them: fine-tuning lines, stored completions, requests with their responses, preferences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feedback.intake.event_files import Line
from feedback.intake.foreign.converting import Conversion, NotThis, documents, looks_like, name_of


def read(path: Path, conversion: Conversion) -> Iterator[Line]:
    """The events of a file; raises NotThis."""
    for number, document in documents(path, conversion):
        made = _events(document, number, conversion) if isinstance(document, dict) else None
        if made is None:
            if (what := looks_like(document)) is not None and not what.startswith("OpenAI"):
                raise NotThis(f"{path.name}, line {number}, looks like {what}")
            conversion.lose("no chat: neither messages, nor a request with its response", f"line {number}")
            continue
        yield from (line for line in made if line is not None)


def _events(document: dict[str, Any], number: int, conversion: Conversion) -> list[Line | None] | None:
    """None where the document is no chat."""
    if document.get("event") in ("turn", "rating"):
        return None  # ours
    request, response = document.get("request"), document.get("response")
    if isinstance(document.get("input"), dict) and "preferred_output" in document:
        return _preference(document, number, conversion)
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        response = response["body"]
    if isinstance(request, dict) and isinstance(request.get("body"), dict):
        request = request["body"]
    if isinstance(response, dict) and not isinstance(request, dict):
        conversion.lose("a response without its request: join them by custom_id first", f"line {number}")
        return []
    said = {**request, **response} if isinstance(request, dict) and isinstance(response, dict) else document
    messages, choices = said.get("messages"), said.get("choices")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    if isinstance(choices, list) and choices:
        return [_turn(said, messages, choice, number, conversion) for choice in choices]
    if not messages or messages[-1].get("role") != "assistant":
        conversion.lose("a chat without a reply at its end", f"line {number}")
        return []
    return [_turn(said, messages[:-1], {"message": messages[-1]}, number, conversion)]


def _turn(said: dict[str, Any], messages: list[Any], choice: Any, number: int, conversion: Conversion) -> Line | None:
    reply = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(reply, dict):
        conversion.lose("a choice without a message", f"line {number}")
        return None
    metadata = said["metadata"] if isinstance(said.get("metadata"), dict) else {}
    name = name_of("openai", messages, reply, said.get("id"), said.get("created"))
    user = said.get("safety_identifier") or said.get("user")
    return conversion.event(
        number, event="turn", event_id=name, turn_id=name, messages=messages, reply=reply,
        conversation_id=str(metadata.get("conversation_id") or name_of("openai", messages[:2])),
        occurred_at=said.get("created"), policy=str(said.get("model") or conversion.policy),
        user_id=user if isinstance(user, str) else None, finish_reason=choice.get("finish_reason"),
        usage=said["usage"] if isinstance(said.get("usage"), dict) else None,
        locale=metadata.get("locale") if isinstance(metadata.get("locale"), str) else None,
    )  # fmt: skip


def _preference(document: dict[str, Any], number: int, conversion: Conversion) -> list[Line | None] | None:
    messages = document["input"].get("messages")
    outputs: list[Any] = [document.get(name) for name in ("preferred_output", "non_preferred_output")]
    if not isinstance(messages, list) or not all(isinstance(one, list) and len(one) == 1 for one in outputs):
        conversion.lose("a preference whose outputs are not one message each", f"line {number}")
        return []
    names = [name_of("openai", messages, output) for output in outputs]
    conversation = name_of("openai", messages)
    made = [
        conversion.event(
            number, event="turn", event_id=name, turn_id=name, conversation_id=conversation, messages=messages,
            reply=output[0], policy=conversion.policy,
        )
        for name, output in zip(names, outputs, strict=True)
    ]  # fmt: skip
    return [*made, conversion.event(
        number, event="rating", event_id=name_of("pick", names), turn_id=names[0], conversation_id=conversation,
        source="user", kind="pick", value={"over": names[1], "tie": False},
    )]  # fmt: skip
