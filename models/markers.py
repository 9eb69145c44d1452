"""The markers of a base's chat template, and texts in which they are none: for engines that tokenise what people wrote.

Our own tokenisation needs none of this (models/chat.py): there no text is ever a marker.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateError

from models.chat import Chat

BREAK = "\u200d"
"""A zero-width joiner: it is not seen, and what it stands in is no marker any more."""

_SPOKEN = [{"role": role, "content": "-"} for role in ("user", "assistant", "user")]


def markers_of(chat: Chat) -> tuple[str, ...]:
    """What the tokenizer takes for one token wherever it stands, and that is special or structures a conversation.

    Other such words (`<b>`, runs of blanks) are ordinary text that some bases have a token of its own for.
    """
    try:
        structure: str = chat.tokenizer.apply_chat_template(_SPOKEN, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        structure = ""
    special, added = set(chat.tokenizer.all_special_tokens), chat.tokenizer.get_added_vocab().keys()
    found = special | {word for word in added if word in structure}
    return tuple(sorted(word for word in found if len(word.strip()) > 1))


def break_markers(text: str, markers: Sequence[str]) -> str:
    """The text with a `BREAK` after the first character of each marker in it.

    One pass for each marker and not a regular expression for all: none of them holds the interpreter for long.

    >>> break_markers("say <|end|>", ["<|end|>", "<|user|>"]) == "say <" + BREAK + "|end|>"
    True
    """
    absent = {opening for opening in {marker[:2] for marker in markers} if opening not in text}
    for marker in markers:
        if marker[:2] not in absent:
            text = text.replace(marker, marker[0] + BREAK + marker[1:])
    return text
