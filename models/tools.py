"""Calls of tools in a conversation, as a base's chat template says them, and as text where it says none. No torch.

A template is shown the calls with placeholders for what somebody wrote: names, arguments, what a tool answered. Arguments are
an object, as engines give them to templates, which write it as JSON, or its members one by one.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from jinja2 import TemplateError

from feedback.content import readable
from feedback.records import Message
from feedback.texts import is_blank
from models.shapes import JOINT, Shape, placeholder, shaped

_ARGUMENTS = re.compile('\\{\\s*"(\ue000\\d+\ue001)"\\s*:\\s*0\\s*\\}')


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether anyone calls a tool here, or one answers."""
    return any("tool_calls" in message or message["role"] == "tool" for message in messages)


def without_orphans(messages: Sequence[Message]) -> list[Message]:
    """The same messages, calls numbered from the first; a tool that answers no call among them speaks as the user."""
    return [
        {"role": "user", "content": message["content"]}
        if message["role"] == "tool" and "tool_call_id" not in message
        else message
        for message in readable(messages)
    ]


def as_text(message: Message) -> Message:
    """A message in plain roles: calls as JSON, a line each, and a tool's answer as if the user told it."""
    if message["role"] == "tool":
        return {"role": "user", "content": message["content"]}
    if "tool_calls" not in message:
        return message
    lines = [
        f'{{"name": {_json(call["function"]["name"])}, "arguments": {written(call["function"]["arguments"])}}}'
        for call in message["tool_calls"]
    ]
    said = [] if is_blank(message["content"]) else [message["content"]]
    return {"role": message["role"], "content": "\n".join([*said, *lines])}


def written(arguments: str) -> str:
    """Arguments as templates write them: one form for every way to write the same JSON; what is none stays.

    >>> written('{"id":"K-1"}'), written("not JSON")
    ('{"id": "K-1"}', 'not JSON')
    """
    try:
        return _json(json.loads(arguments))
    except (ValueError, RecursionError):
        return arguments


def spread(messages: Sequence[Message]) -> list[Message] | None:
    """The same with arguments as objects, for templates that write them one by one; None where some are no object."""
    found = list[Message]()
    for message in messages:
        calls = []
        for call in message.get("tool_calls", ()):
            try:
                arguments = json.loads(call["function"]["arguments"])
            except (ValueError, RecursionError):
                return None
            if not isinstance(arguments, dict):
                return None
            calls.append(call | {"function": call["function"] | {"arguments": arguments}})
        found.append(message | {"tool_calls": calls} if calls else message)
    return found


def slots(messages: Sequence[Message]) -> list[tuple[str, int]]:
    """All that somebody wrote, each with the number of its message, in the order of placeholders."""
    found = list[tuple[str, int]]()
    for number, message in enumerate(messages):
        found.append((message["content"], number))
        for call in message.get("tool_calls", ()):
            texts = [call["function"]["name"], *_texts(call["function"]["arguments"])]
            found += [(text, number) for text in texts]
    return found


def _texts(arguments: str | dict[str, Any]) -> list[str]:
    """Arguments in one text, or names and values in turn."""
    if isinstance(arguments, str):
        return [written(arguments)]
    return [
        text for name, value in arguments.items() for text in (name, value if isinstance(value, str) else _json(value))
    ]


def form_of(messages: Sequence[Message]) -> tuple[str, ...]:
    """What of messages (`without_orphans`) decides how a template puts them: nothing that somebody wrote."""
    forms = list[str]()
    for message in messages:
        calls = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
        shown = ["whole" if isinstance(arguments, str) else [bool(t) for t in _texts(arguments)] for arguments in calls]
        forms.append(f"{message['role']} {bool(message['content'])} {shown} {message.get('tool_call_id')}")
    return tuple(forms)


def said_by_template(messages: Sequence[Message], shape: Shape, render: Callable[[list[Message]], str]) -> str | None:
    """What the template makes of them, with a placeholder for each of `slots`; None where it refuses, or leaves any out."""
    written_by = [number for _, number in slots(messages)]
    marks = [bisect_left(written_by, number) for number in range(len(messages))]  # of each message, its first
    # of one kind, they are no turns of one role: none of them is put together with another
    roles = [f"{n}" if uses_tools([message]) else message["role"] for n, message in enumerate(messages)]
    said = list[Message]()
    for role, numbers in shaped(roles, shape):
        if uses_tools([messages[n] for n in numbers]):
            said += [_marked(messages[n], marks[n]) for n in numbers]
        else:
            said.append({"role": role, "content": JOINT.join(placeholder(marks[n]) for n in numbers) or " "})
    try:
        text, objects = _ARGUMENTS.subn(r"\1", render(said))
    except TemplateError:
        return None
    wanted = [placeholder(at) for at, (content, _) in enumerate(slots(messages)) if content]
    calls = [call["function"]["arguments"] for message in messages for call in message.get("tool_calls", ())]
    whole = objects == sum(isinstance(arguments, str) for arguments in calls)
    return text if whole and all(text.count(mark) == 1 for mark in wanted) else None


def _marked(message: Message, mark: int) -> Message:
    content = placeholder(mark) if message["content"] else ""
    if message["role"] == "tool":
        return {"role": "tool", "content": content, "tool_call_id": _id(message["tool_call_id"])}
    marks = map(placeholder, count(mark + 1))
    calls = [
        {
            "id": _id(call["id"]),
            "type": "function",
            "function": {"name": next(marks), "arguments": _marked_arguments(call["function"]["arguments"], marks)},
        }
        for call in message["tool_calls"]
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def _marked_arguments(arguments: str | dict[str, Any], marks: Iterator[str]) -> dict[str, Any]:
    return {next(marks): 0} if isinstance(arguments, str) else {next(marks): next(marks) for _ in arguments}


def _id(number: str) -> str:
    """Nine letters and digits, as some templates want it."""
    return f"call{int(number.removeprefix('call_')) % 100_000:05d}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
