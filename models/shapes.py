"""What sequences of roles a chat template takes, found out by rendering small ones, and how others are brought into that shape.

No system role: a system message is folded into the first user turn. Strict alternation: turns of one role are merged, and
what comes before the first user turn goes. Nothing reads the template's text, which may say it in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jinja2 import TemplateError
from msgspec import Struct

from feedback.records import Message

Messages = list[Message]
Render = Callable[[Messages, bool], str]
Turn = tuple[str, list[int]]
"""A role, and which messages make up its text."""

JOINT = "\n\n"
"""Between the texts of a turn that was made of several."""


class Shape(Struct, frozen=True):
    """What a template does not take, or does to a conversation."""

    folds: bool
    """No system role."""
    system_first: bool
    """No system message but the first."""
    merges: bool
    """No two turns of one role in a row."""
    user_first: bool
    """No assistant before the first user."""


def placeholder(number: int) -> str:
    """Stands for a message's text."""
    return f"\ue000{number}\ue001"


def find_shape(render: Render) -> Shape:
    """Render a few small conversations, and see. Raises TemplateError where the template does not take a single question."""
    why = _refusal(render, "user", reply=True)
    if why is not None:
        raise TemplateError(why)

    def refuses(*roles: str) -> bool:
        return _refusal(render, *roles) is not None

    folds = refuses("system", "user", "assistant")
    first = [] if folds else ["system"]
    alternating = ["user", "assistant"]
    return Shape(
        folds=folds,
        system_first=folds or refuses("system", *alternating, "system", *alternating),
        merges=refuses("user", "user", "assistant") or refuses("user", "assistant", "assistant", "user", "assistant"),
        user_first=refuses("assistant", "user", "assistant") or refuses(*first, "assistant", "user", "assistant"),
    )


def shaped(roles: Sequence[str], shape: Shape) -> list[Turn]:
    """The turns that messages of these roles become.

    >>> gemma = Shape(folds=True, system_first=True, merges=True, user_first=True)
    >>> shaped(["system", "user", "user", "assistant", "system", "user"], gemma)
    [('user', [0, 1, 2]), ('assistant', [3]), ('user', [4, 5])]
    """
    turns = _folded(roles, shape)
    if shape.merges:
        turns = _merged(turns)
    if shape.user_first:
        turns = _from_the_user_on(turns)
        turns = _merged(turns) if shape.merges else turns
    return turns


def _folded(roles: Sequence[str], shape: Shape) -> list[Turn]:
    turns, waiting = list[Turn](), list[int]()
    for number, role in enumerate(roles):
        if role == "system" and (shape.folds or (shape.system_first and number > 0)):
            waiting.append(number)
        elif role == "user":
            turns.append((role, [*waiting, number]))
            waiting = []
        else:
            turns.append((role, [number]))
    if waiting and turns and turns[-1][0] == "user":
        turns[-1] = ("user", [*turns[-1][1], *waiting])
    elif waiting:
        turns.append(("user", waiting))
    return turns


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    merged = list[Turn]()
    for role, numbers in turns:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, [*merged[-1][1], *numbers])
        else:
            merged.append((role, numbers))
    return merged


def _from_the_user_on(turns: Sequence[Turn]) -> list[Turn]:
    head = [turn for turn in turns[:1] if turn[0] == "system"]
    first = next((at for at, (role, _) in enumerate(turns) if role == "user"), None)
    if first is None:  # templates want a question
        return [*head, ("user", []), *turns[len(head) :]]
    return [*head, *turns[first:]]


def _refusal(render: Render, *roles: str, reply: bool = False) -> str | None:
    """Why this conversation can't be rendered whole; None where it can."""
    try:
        text = render([{"role": role, "content": placeholder(n)} for n, role in enumerate(roles)], reply)
    except TemplateError as error:
        return str(error) or type(error).__name__
    lost = [role for n, role in enumerate(roles) if placeholder(n) not in text]
    return f"it leaves out what the {lost[0]} says" if lost else None
