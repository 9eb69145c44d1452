"""What a model thought, told apart from what it answered."""

from __future__ import annotations

import re

from feedback.texts import first_visible

_NAMES = "(?:think(?:ing)?|thoughts?|reasoning)"
_TAG = re.compile(
    rf"(?P<open><{_NAMES}(?:\s[^<>]{{0,200}})?>|(?-i:\[THINK\]))"
    rf"|(?P<close></{_NAMES}\s*>|(?-i:\[/THINK\]))"
    r"|(?P<open_details><details\s[^<>]{0,300}\btype=.?reasoning\b[^<>]{0,300}>)"
    r"|(?P<close_details></details\s*>)",
    re.IGNORECASE,
)
_QUOTES = frozenset("`\"'")


def answer_of(text: str) -> str:
    """What a model wrote without its thoughts, and what is blank before the answer; empty where a thought does not end.

    A thought opens where the text begins (after other thoughts, if there are any); what ends without an opening was opened
    by the template, so all before it is a thought. A text that thinks may do so again where a line begins. Elsewhere, and in
    quotes, the tags are spoken of: they stay. Known are `<think>`, `<thinking>`, `<thought>`, `<thoughts>`, `<reasoning>`
    (however they are capitalised), `[THINK]`, and Open WebUI's `<details type="reasoning">`. Linear in the text's length.

    >>> answer_of("<think>hm</think>\\n\\nYes."), answer_of("hm</think>Yes."), answer_of("Yes: <think> begins a thought.")
    ('Yes.', 'Yes.', 'Yes: <think> begins a thought.')
    """
    if "<" not in text and "[THINK]" not in text and "[/THINK]" not in text:  # nearly all
        return text
    kept: list[str] = []
    start, spoken_of, ends_with = 0, 0, ""
    for tag in _TAG.finditer(text):
        kind = tag.lastgroup or ""
        if ends_with:
            if kind == ends_with:
                start, spoken_of, ends_with = tag.end(), 0, ""
        elif _is_quoted(text, tag):
            continue
        elif kind.startswith("open"):
            if _opens(text, start, tag.start()):
                kept.append(text[start : tag.start()])
                ends_with = kind.replace("open", "close")
            else:
                spoken_of += kind == "open"
        elif kind == "close" and spoken_of:
            spoken_of -= 1
        elif kind == "close":
            kept.clear()
            start = tag.end()
    if ends_with:
        return ""
    if not start:
        return text
    answer = "".join([*kept, text[start:]])
    return answer[first_visible(answer) :]


def _opens(text: str, start: int, at: int) -> bool:
    """Whether a tag at `at` opens a thought, where an answer, perhaps an empty one, began at `start`."""
    return first_visible(text, start) >= at or (start > 0 and text[at - 1] == "\n")


def _is_quoted(text: str, tag: re.Match[str]) -> bool:
    before, after = text[tag.start() - 1 : tag.start()], text[tag.end() : tag.end() + 1]
    return before == after and before in _QUOTES
