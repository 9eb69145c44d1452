"""Why everything is halted, or the rollout paused: every reason that was given since it is so, the first one first."""

from __future__ import annotations

from typing import Any

from deploy.control.history import Entry
from deploy.control.transaction import Transaction
from deploy.rules.rollout import Serving
from deploy.text import iso

SEARCHED = 200
"""Entries of the history, the newest: of a state that is older the reasons are in `trimtab history`."""

_ACTIONS = {"halted": "halt", "paused": "pause"}


def standing(serving: Serving) -> tuple[str, str | None]:
    """The state in which things stand still, or go on, and the candidate that it is of; None: the whole service."""
    if serving.halted:
        return "halted", None
    if serving.rollout is not None:
        return serving.rollout.state, serving.rollout.candidate
    return "serving", None


def because(tx: Transaction, serving: Serving) -> list[dict[str, Any]]:
    """Who halted everything, or paused the rollout, and who said so again; empty where nothing stands still."""
    state, subject = standing(serving)
    found: list[Entry] = []
    if (action := _ACTIONS.get(state)) is not None:
        for entry in tx.history(SEARCHED, subject):
            if (entry.action, entry.subject) == (action, subject):
                found.append(entry)
                if entry.before != entry.after:
                    break
    return [{"at": iso(one.at_us), "actor": one.actor, "reason": one.reason} for one in reversed(found)]
