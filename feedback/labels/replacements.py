"""Turns that were regenerated, and the second replies that took their place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from feedback.labels.exchanges import Exchange
from feedback.labels.outline import Outline
from feedback.records import TurnKey


def named_replacements(exchanges: Mapping[TurnKey, Exchange]) -> Iterator[tuple[TurnKey, TurnKey]]:
    """(first, second) where the second turn names the first, in the same conversation, as the one it replaced."""
    for key, exchange in exchanges.items():
        turn = exchange.turn
        if turn.replaces is None or turn.replaces == turn.turn_id:
            continue
        first = (turn.tenant, turn.conversation_id, turn.replaces)
        if first in exchanges:
            yield first, key


def signalled_replacements(exchanges: Mapping[TurnKey, Exchange]) -> Iterator[tuple[TurnKey, TurnKey]]:
    """(first, second) where the first has a `regenerate` and the second is the next turn that answers its context."""
    signalled = {
        key
        for key, exchange in exchanges.items()
        if any(rating.kind == "signal" and rating.value == "regenerate" for rating in exchange.ratings)
    }
    conversations: defaultdict[tuple[str, str], list[Outline]] = defaultdict(list)
    with_signals = {key[:2] for key in signalled}
    for exchange in exchanges.values():
        turn = exchange.turn
        if (turn.tenant, turn.conversation_id) in with_signals:
            conversations[turn.tenant, turn.conversation_id].append(turn)
    for key in signalled:
        first = exchanges[key].turn
        later = [
            turn
            for turn in conversations[first.tenant, first.conversation_id]
            if _served_order(turn) > _served_order(first) and turn.context == first.context
        ]
        if later:
            yield key, (*key[:2], min(later, key=_served_order).turn_id)


def _served_order(turn: Outline) -> tuple[int, str]:
    return turn.occurred_at_us, turn.turn_id
