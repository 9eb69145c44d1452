"""Feedback on one of several choices of a reply (`n`): each is a turn, named by the reply's id and a number from 0.

`choice` names the one that is rated. `{"over_choice": 0}` as a pick's value names the one that it was picked over, and
becomes the contract's `{"over": turn_id}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from deploy.gateway.identity import checked_id
from deploy.gateway.turn_ids import PREFIXES, TurnId, TurnIds
from deploy.web.errors import bad


def rated_turn(body: Mapping[str, Any], turn_ids: TurnIds) -> tuple[str | None, TurnId | None]:
    """The id of the turn that feedback speaks of, and what it says where it was sealed here. Raises ApiError."""
    turn_id = checked_id(body.get("turn_id"), "turn_id")
    sealed = turn_ids.open(turn_id) if turn_id is not None else None
    if turn_id is not None and sealed is None and turn_id.startswith(PREFIXES):
        raise bad("this turn id was not sealed by this service, or was changed", "turn_id", "forged_turn_id")
    choice = body.get("choice")
    if choice is None:
        return turn_id, sealed
    named = _choice(choice, turn_id, sealed, turn_ids, "choice")
    return named, replace(sealed, choice=choice) if sealed is not None else None


def picked(value: Any, turn_id: str | None, turn_ids: TurnIds) -> Any:
    """The value of a pick of this turn, with `over_choice` as `over`. What else is wrong with it the contract says.

    Raises ApiError.
    """
    if not isinstance(value, dict):
        return value
    if "over_choice" in value:
        if "over" in value:
            raise bad("a pick is over one reply: say over or over_choice", "value")
        sealed = turn_ids.open(turn_id) if turn_id is not None else None
        over = _choice(value["over_choice"], turn_id, sealed, turn_ids, "value.over_choice")
        value = {name: said for name, said in value.items() if name != "over_choice"} | {"over": over}
    if turn_id is not None and value.get("over") == turn_id:
        raise bad("a reply can't be picked over itself: choice and over_choice name two", "value")
    return value


def _choice(asked: Any, turn_id: str | None, sealed: TurnId | None, turn_ids: TurnIds, param: str) -> str:
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 0:
        raise bad(f"{param} must be a whole number from 0", param, "invalid_type")
    if turn_id is None or sealed is None:
        raise bad(f"{param} counts the choices of a reply: turn_id must be one that this service sealed", param)
    named = turn_ids.choice(turn_id, asked)
    if named is None:
        there = "1 choice: 0" if sealed.choices == 1 else f"{sealed.choices} choices: 0 to {sealed.choices - 1}"
        raise bad(f"{param} is {asked}, but this reply has {there}", param)
    return named
