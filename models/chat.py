"""From messages to token ids: one template and one tokenisation for training, evaluation and serving.

The tokenizer's chat template is rendered around placeholders; what stands between them is tokenised with its special
tokens, what people and models wrote is tokenised as plain text. So no text can forge a marker such as `<|assistant|>`.
What of a context that is too long is kept, models.cutting says. What can't have room, as its
characters tell, is cut off before it is tokenised: nine megabytes cost no more than what a context holds.

A template that does not take a sequence of roles gets another that says the same (models/shapes.py). Replies are without
thinking, in training, sampling and serving: a template that can be told so is told, a thought that it opens is closed. A
template that tells the date is told one day, that of the training, whenever it is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from datetime import datetime
from functools import partial
from sys import getsizeof
from typing import Any

from jinja2 import TemplateError
from msgspec import Struct

from feedback.content import readable
from feedback.privacy.remembered import Remembered
from feedback.records import Message
from feedback.texts import is_blank
from models.cutting import fewest_dropped, share
from models.errors import JobFailed, Unrenderable
from models.shapes import JOINT, Shape, find_shape, placeholder, shaped
from models.tools import as_text, form_of, said_by_template, slots, spread, uses_tools, without_orphans

TINY_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TINY_MARKERS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

_ROLES = {"system": "system", "developer": "system", "assistant": "assistant"}
_QUESTION = {"role": "user", "content": "-"}
_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>\s*$")
_PLACEHOLDER = re.compile("\ue000(\\d+)\ue001")
_CACHED_TEXTS_BYTES = 128_000_000
_CACHED_SKELETONS_BYTES = 16_000_000
_ID_BYTES = 36
"""Of one token in a tuple: the reference and the number."""
_MOST_CHARACTERS = 32
"""That a token is reckoned to stand for; the few that stand for more are runs of blanks or dashes."""


def plain(messages: Sequence[Message]) -> list[Message]:
    """Messages as role and text, calls of tools as `feedback.content.readable` has them; thoughts and empty messages go.

    `developer` speaks as system, unknown roles as user, and so does a tool that answers no call here.
    """
    told = list[Message]()
    for message in readable(messages):
        answers = "tool_call_id" in message
        if answers or "tool_calls" in message or not is_blank(message["content"]):
            role = "tool" if answers else _ROLES.get(str(message["role"]), "user")
            told.append(message | {"role": role})
    return told


class Fitted(Struct, frozen=True):
    """A context's ids and what had no room: the number of messages, and whether system and last message were cut."""

    ids: list[int]
    dropped: int
    system_cut: bool
    last_cut: bool


class Chat:
    """Encodes messages and replies for one tokenizer with a chat template."""

    date: str | None
    """That the template tells, YYYY-MM-DD; None where it tells none, or today's."""

    def __init__(self, tokenizer: Any, date: str | None = None) -> None:
        if not tokenizer.chat_template:
            raise JobFailed("the base model's tokenizer has no chat template: choose an instruction-tuned base")
        if not tokenizer.is_fast:
            raise JobFailed("the base model has no fast tokenizer (tokenizer.json): choose another base")
        self.tokenizer = tokenizer
        self._texts = Remembered[str, tuple[int, ...]](_CACHED_TEXTS_BYTES)
        self._skeletons = Remembered[tuple[tuple[str, ...], bool], list[tuple[int, ...] | int]](_CACHED_SKELETONS_BYTES)
        words = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
        self._characters = min(max(map(len, words), default=1), _MOST_CHARACTERS)
        """That one token stands for at most."""
        self._day: dict[str, Any] = {}
        try:
            self.shape: Shape = find_shape(self._text)
            self.tells_date = self._tells_date()
        except TemplateError as error:
            raise JobFailed(
                f"the base model's chat template can't render a single question ({error}): correct it, or choose another base"
            ) from None
        self.date = date if self.tells_date else None
        self._day = _variables(self.date)
        self.closing = self._closing()
        """What ends a reply: up to and with the first special token after it."""
        self.end_ids = frozenset({self.closing[-1], tokenizer.eos_token_id} - {None})

    def dated(self, date: str | None) -> Chat:
        """The same chat on that day (YYYY-MM-DD; None: as it is); itself where the template tells no date."""
        if date is None or date == self.date or not self.tells_date:
            return self
        other = copy(self)
        other.date, other._day = date, _variables(date)
        other._skeletons = Remembered(_CACHED_SKELETONS_BYTES)
        return other

    def prompt(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        """Ids of the context with the opening of the reply, at most `max_tokens` long."""
        return self.fit(messages, max_tokens).ids

    def fit(self, messages: Sequence[Message], max_tokens: int) -> Fitted:
        """As `prompt`, with what had no room (models.cutting)."""
        whole = plain(messages) or [{"role": "user", "content": " "}]  # templates want at least one message
        head, tail = self._that_may_fit(whole, max_tokens * self._characters)

        def pieces(drop: int) -> list[tuple[Sequence[int], int | None]]:
            return self._pieces(head + tail[drop:], open_reply=True)

        drop = fewest_dropped(max(0, len(tail) - 1), lambda n: _size(pieces(n)) <= max_tokens)
        found, cut = pieces(drop), (head != whole[: len(head)], bool(tail) and tail[-1] != whole[-1])
        if _size(found) > max_tokens:
            found, cut = self._cut(head, tail[drop:], max_tokens)
        ids = [token for piece, _ in found for token in piece]
        return Fitted(ids[-max_tokens:], len(whole) - len(head) - len(tail) + drop, *cut)

    def needed(self, messages: Sequence[Message], max_tokens: int) -> int:
        """Tokens, up to `max_tokens`, of a context of the leading system message and the last message alone."""
        whole = plain(messages)
        head = whole[:1] if whole and whole[0]["role"] == "system" else []
        return len(self.prompt([*head, *whole[len(head) :][-1:]], max_tokens))

    def content(self, text: str) -> tuple[int, ...]:
        """Ids of a text that somebody wrote."""
        ids = self._texts.get(text)
        if ids is None:
            ids = self._content(text)
            self._texts.set(text, ids, getsizeof(text) + _ID_BYTES * len(ids))
        return ids

    def reply(self, text: str, max_tokens: int) -> list[int]:
        """Ids of a reply with what ends it; one that is longer is cut, and then does not end."""
        return [*self.content(text[: max_tokens * self._characters]), *self.closing][:max_tokens]

    def without_end(self, ids: Sequence[int]) -> list[int]:
        """A reply's ids without what ends it: of a reply that was cut while it was written nobody knows its end."""
        kept = list(ids)
        return kept[: -len(self.closing)] if kept[-len(self.closing) :] == self.closing else kept

    def conversation(self, messages: Sequence[Message]) -> list[tuple[list[int], bool]]:
        """The whole conversation as (ids, is it a target) pieces: targets are assistants' texts with what ends them."""
        kept = plain(messages)
        if not kept:
            return []
        pieces: list[tuple[list[int], bool]] = []
        closes = False
        for ids, index in self._pieces(kept, open_reply=False):
            if index is not None:
                closes = kept[index]["role"] == "assistant" and "tool_calls" not in kept[index]
                pieces.append((list(ids), closes))
            elif closes:
                cut = len(self.closing)
                pieces += [(list(ids[:cut]), True), (list(ids[cut:]), False)]
                closes = False
            else:
                pieces.append((list(ids), False))
        return [piece for piece in pieces if piece[0]]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a reply's ids, without markers."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _that_may_fit(self, messages: list[Message], room: int) -> tuple[list[Message], list[Message]]:
        """The leading system message and the newest others, of so many characters at most; of the last one its end."""
        head = messages[:1] if messages[0]["role"] == "system" else []
        tail, used = list[Message](), 0
        for message in reversed(messages[len(head) :]):
            used += (
                sum(len(text) for text, _ in slots([message])) if "tool_calls" in message else len(message["content"])
            )
            if used > room and tail:
                break
            tail.append(message | {"content": message["content"][-room:]})
        return [message | {"content": message["content"][:room]} for message in head], tail[::-1]

    def _cut(
        self, head: list[Message], last: list[Message], room: int
    ) -> tuple[list[tuple[Sequence[int], int | None]], tuple[bool, bool]]:
        """Of a system message its beginning, of the last one its end, between whole markers; and which of them was cut."""
        last = [as_text(message) for message in last]
        pieces = self._pieces(head + last, open_reply=True)
        sizes = [sum(len(ids) for ids, index in pieces if index == n) for n in range(len(head + last))]
        left = room - _size(pieces) + sum(sizes)
        first, end = share(left, sizes[0] if head else 0, sizes[-1] if last else 0)
        if head and last and not first:
            return self._cut([], last, room)[0], (True, end < sizes[-1])
        kept: list[slice] = [slice(first)] * len(head) + [slice(max(0, sizes[-1] - end), None)] * len(last)
        if left > 0:  # else there is no room for the markers alone
            pieces = [(ids if index is None else ids[kept[index]], index) for ids, index in pieces]
        return pieces, (bool(head) and first < sizes[0], bool(last) and end < sizes[-1])

    def _pieces(self, messages: list[Message], open_reply: bool) -> list[tuple[Sequence[int], int | None]]:
        """Ids in order; with the message's index where they are its text, None where they are the template's."""
        found = self._with_tools(without_orphans(messages), open_reply) if uses_tools(messages) else None
        if found is not None:
            skeleton, texts = found
        else:
            messages = [as_text(message) for message in messages]
            texts = [(message["content"], number) for number, message in enumerate(messages)]
            skeleton = self._skeleton(tuple(m["role"] for m in messages), open_reply)
        return [
            (part, None) if isinstance(part, tuple) else (self.content(texts[part][0]), texts[part][1])
            for part in skeleton
        ]

    def _skeleton(self, roles: tuple[str, ...], open_reply: bool) -> list[tuple[int, ...] | int]:
        form = roles, open_reply
        skeleton = self._skeletons.get(form)
        if skeleton is None:
            skeleton = self._make_skeleton(*form)
            self._skeletons.set(form, skeleton, 100 * (len(form[0]) + 1))
        return skeleton

    def _with_tools(
        self, messages: list[Message], open_reply: bool
    ) -> tuple[list[tuple[int, ...] | int], list[tuple[str, int]]] | None:
        """As `_skeleton`, with the texts (models.tools.slots) that its indices mean; None where the template says no calls."""
        for shown in (messages, spread(messages)):
            if shown is None:
                continue
            form = form_of(shown), open_reply
            skeleton = self._skeletons.get(form)
            if skeleton is None:
                text = said_by_template(shown, self.shape, lambda said: self._text(said, open_reply))
                skeleton = [] if text is None else self._split(text)
                self._skeletons.set(form, skeleton, 100 * (len(form[0]) + 1))
            if skeleton:
                return skeleton, slots(shown)
        return None

    def _make_skeleton(self, roles: tuple[str, ...], open_reply: bool) -> list[tuple[int, ...] | int]:
        """What the template makes of messages with these roles: ids of its own text, and indices where theirs go."""
        marked: list[Message] = [
            {"role": role, "content": JOINT.join(map(placeholder, numbers)) or " "}
            for role, numbers in shaped(roles, self.shape)
        ]
        return self._split(self._render(marked, open_reply))

    def _split(self, text: str) -> list[tuple[int, ...] | int]:
        """Ids of what a template said, and the numbers of its placeholders."""
        parts = _PLACEHOLDER.split(text)
        return [int(part) if n % 2 else tuple(self._markup(part)) for n, part in enumerate(parts) if part]

    def _render(self, messages: list[Message], open_reply: bool) -> str:
        try:
            return self._text(messages, open_reply)
        except TemplateError as error:
            raise Unrenderable(f"the base model's chat template refuses a conversation: {error}") from None

    def _text(self, messages: list[Message], open_reply: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=open_reply, enable_thinking=False, **self._day
        )
        opened = _THOUGHT.search(text[text.rfind("\ue001") + 1 :]) if open_reply else None
        return f"{text.rstrip()}\n\n</{opened[1]}>\n\n" if opened else text

    def _tells_date(self) -> bool:
        said = [[_QUESTION], [{"role": "system", "content": "-"}, _QUESTION]]
        told = list[list[str]]()
        for day in ("2001-02-03", "2014-10-29"):
            self._day = _variables(day)
            told.append([self._text(messages, True) for messages in said[: 1 if self.shape.folds else 2]])
        return told[0] != told[1]

    def _markup(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]
        return ids

    def _content(self, text: str) -> tuple[int, ...]:
        text = text.encode("utf-8", "replace").decode()  # JSON may carry lone surrogates
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _closing(self) -> list[int]:
        marked = [{"role": "user", "content": placeholder(0)}, {"role": "assistant", "content": placeholder(1)}]
        ids = self._markup(_PLACEHOLDER.split(self._render(marked, False))[-1])
        special = set(self.tokenizer.all_special_ids)
        end = next((position for position, token in enumerate(ids) if token in special), None)
        if end is not None:
            return ids[: end + 1]
        if self.tokenizer.eos_token_id is None:
            raise JobFailed("the base model's chat template does not end a reply with a special token: choose another")
        return [*ids, self.tokenizer.eos_token_id]


def _size(pieces: Sequence[tuple[Sequence[int], int | None]]) -> int:
    return sum(len(ids) for ids, _ in pieces)


def _variables(date: str | None) -> dict[str, Any]:
    """What a template asks for the date; what it says without being told stays where `date` is None."""
    if date is None:
        return {}
    day = datetime.fromisoformat(date)
    return {"strftime_now": partial(_strftime, day), "date_string": day.strftime("%d %b %Y")}


def _strftime(day: datetime, form: str) -> str:
    return day.strftime(form)
