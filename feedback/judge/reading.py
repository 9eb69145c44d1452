"""Finding the one JSON object that answers, in whatever a model wrote around it. Pure, and linear in the length of the text.

Models put their answer into a code block, behind a thought, before a sentence of farewell; they break lines inside strings.
All of that is looked past. Nothing is repaired: what is no JSON stays none, of two objects that disagree neither counts, and
what a thought or a broken object holds is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

MAX_OBJECTS = 1_000
"""More beginnings of objects than an answer has that means one of them."""

MAX_OBJECT_CHARACTERS = 100_000
"""Of an object that stands in other text."""

_THOUGHT = r"think|thinking|thought|reasoning|reflection"
_MARK = re.compile(
    rf"""(?P<object>\{{\s*")"""
    rf"""|(?P<opens><(?:{_THOUGHT})>|\[THINK\])"""
    rf"""|(?P<closes></(?:{_THOUGHT})>|\[/THINK\]|<\|channel\|>\s*final\s*<\|message\|>)""",
    re.IGNORECASE,
)


class Unparsable(Exception):
    """An answer that is not what was asked for."""


class Found(NamedTuple):
    """An object, and how it was written."""

    value: dict[str, Any]
    text: str


class _Twice:
    """The value of a key that stands in an object twice, with different values."""

    def __str__(self) -> str:
        return "given twice"

    __repr__ = __str__


def answer(text: str, key: str, read: Callable[[dict[str, Any]], T], decided: Callable[[T], object], asked: str) -> T:
    """The one answer in a text: an object with `key` that `read` takes; raises Unparsable, saying what is wrong.

    Of several that were `decided` alike the last one counts. An object that stands in the question, `asked`, is a quotation:
    whoever wrote what is judged might have put it there.
    """
    found = _objects(text)
    if not found:
        raise Unparsable("the answer holds no JSON object")
    alone = len(found) == 1 and found[0].text == _cleaned(text)
    question = "" if alone else _bare(asked)
    answers, wrong = list[T](), Unparsable(f"the answer has no `{key}`")
    for one in found:
        for value in _with_key(one.value, key):
            try:
                said = read(value)
                if _bare(one.text) in question:
                    raise Unparsable("the only verdict in the answer is quoted from what was judged")
                answers.append(said)
            except Unparsable as error:
                wrong = error
    if not answers:
        raise wrong
    if any(decided(one) != decided(answers[-1]) for one in answers):
        raise Unparsable("the answer holds verdicts that contradict each other")
    return answers[-1]


def _objects(text: str) -> list[Found]:
    """The outermost JSON objects of a text, in order, thoughts left out; raises Unparsable."""
    text = _cleaned(text)
    found = list[Found]()
    at, tried = 0, 0
    while (mark := _MARK.search(text, at)) is not None:
        at = mark.end()
        if mark["opens"]:
            close = next((end for end in _MARK.finditer(text, at) if end["closes"]), None)
            if close is None:
                break  # a thought without end: what follows is no answer
            at = close.end()
        elif mark["closes"]:
            found.clear()  # the thought began in the prompt
        else:
            tried += 1
            if tried > MAX_OBJECTS:
                raise Unparsable(f"the answer holds more than {MAX_OBJECTS:,} objects")
            value, at = _object(text, mark.start())
            if value is not None:
                found.append(Found(value, text[mark.start() : at]))
    return found


def _object(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The object that begins at `start`, if one does, and where to look on.

    What a broken object held until it broke is not looked at again: an object inside is not the answer.
    """
    window = text if start == 0 else text[start : start + MAX_OBJECT_CHARACTERS]
    try:
        value, length = _DECODER.raw_decode(window)
    except json.JSONDecodeError as error:
        return None, start + max(error.pos, 1)
    except (RecursionError, ValueError):
        raise Unparsable("the answer is nested too deeply, or holds numbers without end") from None
    return value, start + length


def _with_key(value: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The object itself where it has the key, else what it is wrapped around, one level down."""
    if key in value:
        yield value
    else:
        yield from (inner for inner in value.values() if isinstance(inner, dict) and key in inner)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict[str, Any]()
    for name, value in pairs:
        seen[name] = value if name not in seen or seen[name] == value else _Twice()
    return seen


def _cleaned(text: str) -> str:
    """Without half characters, and without a mark of byte order, which some servers put before the answer."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\ufeff", "").strip()


def _bare(text: str) -> str:
    return "".join(text.split())


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_once)
"""Takes line breaks in strings. NaN and Infinity, too: whoever reads numbers refuses them by name."""
