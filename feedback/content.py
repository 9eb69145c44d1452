"""What of a turn is text that can be learned from, and why the rest is not.

Texts are joined from their parts here, and nowhere else; what a model thought is not part of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct

from feedback.moments import without_moments
from feedback.records import Message, Turn
from feedback.texts import is_blank
from feedback.thoughts import answer_of

TEXT_ROLES = frozenset({"system", "developer", "user", "assistant"})
ROLES = TEXT_ROLES | {"tool", "function"}

JOINT = "\n"
"""Between the text parts of one message."""

UNREDACTABLE = "unredactable"
"""In the `extra` of a turn that was served but could not be redacted in time: it is kept without its texts."""

CUT = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "limit"), "length"),
    **dict.fromkeys(("content_filter", "content_filtered", "safety", "recitation", "refusal", "blocklist", "spii"), "content_filter"),
    **dict.fromkeys(("prohibited_content", "guardrail_intervened", "image_safety"), "content_filter"),
}  # fmt: skip
"""What engines call the end of a reply that its model had not ended (in small letters), and what OpenAI calls it."""

CUT_REASONS = frozenset(f"finish_{name}" for name in CUT.values())

_CALLED = frozenset({"tool_calls", "function_call", "tool_use", "tool_call"})
_CALLS = ("tool_calls", "function_call")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_THOUGHT_PARTS = frozenset({"reasoning", "thinking", "redacted_thinking", "reasoning_text"})


class Text(Struct, frozen=True):
    """What is learned from a turn: the reply and the messages that it answers, as `prompt_of` makes them."""

    prompt: list[Message]
    reply: str


def parts_of(content: Any) -> list[tuple[str, str | None]]:
    """The parts of a message's content, but for thoughts: type, and text where it is one. A string is one part, null none."""
    if content is None:
        return []
    if not isinstance(content, list):
        return [("text", content) if isinstance(content, str) else ("part", None)]
    found = list[tuple[str, str | None]]()
    for part in content:
        if (kind := str(part.get("type") or "part")) not in _THOUGHT_PARTS:  # a part is an object: intake saw to that
            text = part.get("text") if kind in _TEXT_PARTS else None
            found.append((kind, text if isinstance(text, str) else None))
    return found


def joined(content: Any) -> str:
    """All that is text in a message's content: its parts, a line or more for each."""
    return (
        content if isinstance(content, str) else JOINT.join(text for _, text in parts_of(content) if text is not None)
    )


def spoken(message: Message) -> str:
    """All that is text in a message; of an assistant's, what is no thought."""
    text = joined(message.get("content"))
    return answer_of(text) if message.get("role", "assistant") == "assistant" else text


def text_of(message: str | Message) -> str | None:
    """The text of a reply or message without thoughts; None where it is, even in part, something else (images, tool calls,
    refusals)."""
    if isinstance(message, str):
        return answer_of(message)
    content: Any = message.get("content")
    if len(message) == 2 and isinstance(content, str):  # by far most messages: role and content
        return spoken(message)
    if any(message.get(key) for key in ("tool_calls", "function_call", "audio", "refusal")):
        return None
    if not isinstance(content, str) and any(text is None for _, text in parts_of(content)):
        return None
    return spoken(message)


def prompt_of(messages: Iterable[Message]) -> list[Message] | None:
    """The messages as plain `{"role", "content"}` with text content; None where one is no text.

    An assistant that calls tools has `tool_calls` too, `{"id", "type", "function": {"name", "arguments"}}` with arguments as
    text, and a tool the `tool_call_id` that it answers: ids are numbers in order, so that they say nothing but that.
    """
    prompt = list(_plainly(messages, text_of))
    whole = all(
        message["content"] is not None and message["role"] in ROLES and None not in message.get("tool_calls", ())
        for message in prompt
    )
    return prompt if whole else None


def readable(messages: Iterable[Message]) -> list[Message]:
    """As `prompt_of`, but of messages that are not all text: what is no text, or a call without a name, is left out."""
    found = list[Message]()
    for message in _plainly(messages, spoken):
        calls = [call for call in message.pop("tool_calls", ()) if call is not None]
        found.append(message | {"tool_calls": calls} if calls else message)
    return found


def question_of(messages: Iterable[Message]) -> list[Message] | None:
    """What replies must answer alike to be compared: the prompt, without the clock in what the system says of itself.

    Only system and developer messages lose their times and dates (`without_moments`); a user who asks of another day asks
    another question.
    """
    prompt = prompt_of(messages)
    return prompt and [
        message | {"content": without_moments(message["content"])}
        if message["role"] in ("system", "developer")
        else message
        for message in prompt
    ]


def _plainly(messages: Iterable[Message], read: Callable[[Message], str | None]) -> Iterator[Message]:
    """Each message with what `read` finds in it, its calls (None for one that is none), and the call that a tool answers."""
    numbers, ids = count(1), dict[str, str]()
    for message in messages:
        role = message.get("role")
        given = _given_calls(message) if role == "assistant" else []
        if given:
            text = read({name: value for name, value in message.items() if name not in _CALLS})
            yield {"role": role, "content": text, "tool_calls": [_call(call, ids, numbers) for call in given]}
        elif role in ("tool", "function"):
            answers = ids.get(str(message.get("tool_call_id") or message.get("name")))
            told = {"role": "tool", "content": read(message)}
            yield told if answers is None else told | {"tool_call_id": answers}
        else:
            yield {"role": role, "content": read(message)}


def _given_calls(message: Message) -> list[Any]:
    """The calls of tools in a message, also the one of former days."""
    calls, former = message.get("tool_calls"), message.get("function_call")
    if isinstance(calls, list) and calls:
        return calls
    return [{"id": former.get("name"), "function": former}] if isinstance(former, dict) and former else []


def _call(call: Any, ids: dict[str, str], numbers: Iterator[int]) -> Message | None:
    """A call with its number, which `ids` has for its id from now on; None where it has no name."""
    called = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
    if not isinstance(called, dict) or not isinstance(name := called.get("name"), str) or not name:
        return None
    arguments = called.get("arguments", called.get("input"))
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
    number = ids[str(call.get("id"))] = f"call_{next(numbers)}"
    return {"id": number, "type": "function", "function": {"name": name, "arguments": text}}


def is_unredactable(turn: Turn) -> bool:
    """Whether its texts are not there because they could not be redacted."""
    return UNREDACTABLE in turn.extra


def untrainable(turn: Turn) -> str | None:
    """Why nothing may be learned from a turn, as a reason code; None where it may."""
    if turn.extra and is_unredactable(turn):
        return UNREDACTABLE
    if not turn.train:
        return "train_false"
    if turn.outcome != "ok":
        return f"outcome_{turn.outcome}"
    if turn.truncated:
        return "truncated"
    ended = turn.finish_reason and turn.finish_reason.lower()
    reply = text_of(turn.reply)
    if reply is None or ended in _CALLED:
        return "reply_not_text"
    if is_blank(reply):
        return "reply_empty"
    asked = False
    for message in turn.messages:
        text, role = message.get("content"), message.get("role")
        if len(message) != 2 or type(text) is not str or role not in ROLES:  # hardly ever: ask the long way
            plain = prompt_of([message])
            if plain is None:
                return "prompt_not_text"
            text = plain[0]["content"]
        asked = asked or (role == "user" and not is_blank(text))
    if not asked:
        return "prompt_empty"
    return f"finish_{CUT[ended]}" if ended in CUT else None


def is_learnable(reason: str | None) -> bool:
    """Whether something is learned from a turn that is `untrainable` for this reason: of a reply that was cut, that it is
    unwanted where people say so. It is a beginning; whoever likes it, nobody knows what it would have been worth."""
    return reason is None or reason in CUT_REASONS


def trainable_text(turn: Turn) -> Text:
    """The text of a turn that is learnable; raises ValueError for one that has none (ask `is_learnable` first)."""
    prompt, reply = prompt_of(turn.messages), text_of(turn.reply)
    if prompt is None or reply is None:
        raise ValueError(f"turn {turn.turn_id} is not trainable: {untrainable(turn)}")
    return Text(prompt, reply)
