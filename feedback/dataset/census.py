"""All turns, a hundred bytes each: what is needed to tell which of millions a snapshot is made of.

Of several payloads under one event id, or several events under one turn id, those of the highest origin count (see
`records.RANKS`), and of these the one with the smallest digest; payloads of one origin that differ in nothing but the hashed
user id belong to nobody. So the order of facts and their duplicates do
not matter. Ids and texts are there as xxh3 digests, 128 bits wide where they name a turn.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import xxhash
from numpy.typing import NDArray

from feedback.content import is_learnable, untrainable
from feedback.dataset.near_duplicates import prompt_key
from feedback.digests import MASK, digest_of, masked, payload_of
from feedback.records import RANKS, Split, Turn, TurnKey
from feedback.splits import split_of

Column = NDArray[Any]
Rows = NDArray[np.intp]
"""Places in the columns of a census."""

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Census:
    """One row for each turn, in the order of `turn`."""

    turn: Column
    """(n, 2) uint64: the digest of the turn's key."""
    payload: Column
    """(n, 2) uint64: the digest of the turn and its content hash, see `payload_of`."""
    lot: Column
    """uint64: by which samples are drawn; of the turn's key, or of what it says where an id in that was hashed with a key."""
    occurred_at_us: Column
    person: Column
    """uint64: whose turn it is, the user's or where there is none the conversation's; its value never matters."""
    conversation: Column
    prompt: Column
    """uint64: the digest of the prompt key; 0 where nothing may be learned from the turn."""
    replaces: Column
    """uint64: the first half of the digest of the turn that it replaced; 0 for none."""
    split: Column
    """uint8: which of SPLITS."""
    locale: Column
    """uint16: equal where the locales are."""
    reason: Column
    """uint8: which of `reasons`, why nothing (or, of a reply that was cut, nothing wanted) may be learned from the turn."""
    reasons: tuple[str | None, ...]
    duplicates: int
    """Facts that repeat an event id."""
    conflicts: int
    """Event or turn ids that name different payloads."""

    def __len__(self) -> int:
        return len(self.turn)

    def rows_of(self, turns: Iterable[TurnKey]) -> Rows:
        """Where these turns are; -1 for one that there is not."""
        digests = _pairs(b"".join(digest_of(*key) for key in turns))
        if not len(self) or not len(digests):
            return np.full(len(digests), -1)
        found = np.minimum(np.searchsorted(self.turn[:, 0], digests[:, 0]), len(self) - 1)
        return np.where((self.turn[found] == digests).all(axis=1), found, -1)

    def known(self, turns: Set[TurnKey]) -> Set[TurnKey]:
        """Those of the turns that there are."""
        listed = list(turns)
        return {key for key, row in zip(listed, self.rows_of(listed).tolist(), strict=True) if row >= 0}

    def replaced(self) -> Rows:
        """The turns that took another's place, and those whose place they took."""
        rows = np.flatnonzero(self.replaces)
        wanted = self.replaces[rows]
        first = np.searchsorted(self.turn[:, 0], wanted)
        first = first[self.turn[np.minimum(first, len(self) - 1), 0] == wanted] if len(self) else first
        return np.union1d(rows, first)

    def beside(self, rows: Rows) -> Rows:
        """The turns of the conversations that these are of."""
        return np.flatnonzero(np.isin(self.conversation, self.conversation[rows]))

    def payloads(self, rows: Rows) -> Set[bytes]:
        """What names the payloads that count, for picking them out of the facts."""
        content = self.payload[rows].astype(">u8").tobytes()
        return {content[at : at + 16] for at in range(0, len(content), 16)}


def take(turns: Iterable[tuple[Turn, str]]) -> Census:
    """Count the turns, given with their content hashes: in any order, with duplicates and conflicting payloads."""
    turn_, event, payload = bytearray(), bytearray(), bytearray()
    occurred, person, conversation, prompt, replaces = array("q"), array("Q"), array("Q"), array("Q"), array("Q")
    lot = array("Q")
    split, locale, reason, rank = array("B"), array("H"), array("B"), array("b")
    locales: dict[str | None, int] = {}
    reasons: dict[str | None, int] = {None: 0}
    code = {name: number for number, name in enumerate(SPLITS)}
    for turn, content_hash in turns:
        tenant, conversation_id, why = turn.tenant, turn.conversation_id, untrainable(turn)
        in_conversation = _conversation(tenant, conversation_id)
        turn_ += digest_of(*turn.key)
        lot.append(_half(content_hash) if MASK in map(masked, turn.key) else _first_half(*turn.key))
        event += digest_of(tenant, turn.event_id)
        payload += payload_of(tenant, conversation_id, turn.turn_id, content_hash)
        occurred.append(turn.occurred_at_us)
        conversation.append(in_conversation)
        person.append(in_conversation if turn.user_id is None else _half("user", tenant, turn.user_id))
        prompt.append(_half(prompt_key(turn)) if is_learnable(why) else 0)
        replaced = None if turn.replaces == turn.turn_id else turn.replaces
        replaces.append(0 if replaced is None else _first_half(tenant, conversation_id, replaced))
        rank.append(RANKS[turn.origin])
        split.append(code[split_of(turn.bucket)])
        locale.append(locales.setdefault(turn.locale, min(len(locales), 65_535)))
        reason.append(reasons.setdefault(why, len(reasons)))
    every = Census(
        turn=_pairs(turn_),
        payload=_pairs(payload),
        lot=np.frombuffer(lot, dtype=np.uint64),
        occurred_at_us=np.frombuffer(occurred, dtype=np.int64),
        person=np.frombuffer(person, dtype=np.uint64),
        conversation=np.frombuffer(conversation, dtype=np.uint64),
        prompt=np.frombuffer(prompt, dtype=np.uint64),
        replaces=np.frombuffer(replaces, dtype=np.uint64),
        split=np.frombuffer(split, dtype=np.uint8),
        locale=np.frombuffer(locale, dtype=np.uint16),
        reason=np.frombuffer(reason, dtype=np.uint8),
        reasons=tuple(reasons),
        duplicates=0,
        conflicts=0,
    )
    return _distinct(every, _pairs(event), np.frombuffer(rank, dtype=np.int8))


def _distinct(every: Census, event: Column, rank: Column) -> Census:
    """One row for each turn, of facts with duplicates."""
    if not len(every):
        return every
    order = np.lexsort((every.payload[:, 1], every.payload[:, 0], -rank, event[:, 1], event[:, 0]))
    new_event = _changes(event[order])
    new_payload = new_event | _changes(every.payload[order])
    starts = np.flatnonzero(new_event)
    of_event = np.cumsum(new_event) - 1
    first = order[starts]
    of_payload = np.cumsum(new_payload)
    same = ~new_event & (of_payload == of_payload[starts][of_event]) & (rank[order] == rank[first][of_event])
    disputed = np.unique(of_event[same & (every.person[order] != every.person[first][of_event])])
    person = every.person.copy()
    person[first[disputed]] = every.conversation[first[disputed]]

    of_turn = (
        every.payload[first, 1],
        every.payload[first, 0],
        -rank[first],
        every.turn[first, 1],
        every.turn[first, 0],
    )
    turns = first[np.lexsort(of_turn)]
    new_turn = _changes(every.turn[turns])
    kept = turns[new_turn]
    conflicting_events = np.unique(of_event[new_payload & ~new_event]).size
    shared_turns = np.unique((np.cumsum(new_turn) - 1)[~new_turn]).size
    columns = (
        "turn",
        "payload",
        "lot",
        "occurred_at_us",
        "conversation",
        "prompt",
        "replaces",
        "split",
        "locale",
        "reason",
    )
    return replace(
        every,
        **{name: getattr(every, name)[kept] for name in columns},
        person=person[kept],
        duplicates=len(order) - len(starts),
        conflicts=conflicting_events + shared_turns,
    )


def _changes(keys: Column) -> Column:
    """Where a row of (n, 2) keys differs from the one before; the first does."""
    return np.concatenate(([True], (keys[1:] != keys[:-1]).any(axis=1)))


def _pairs(digests: bytes | bytearray) -> Column:
    """Digests of 16 bytes each as (n, 2) uint64, which sort as the bytes do."""
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def _half(*parts: str) -> int:
    return xxhash.xxh3_64_intdigest("\0".join(parts).encode())


def _conversation(tenant: str, conversation_id: str) -> int:
    return _half("in", tenant, conversation_id)


def _first_half(*key: str) -> int:
    return int.from_bytes(digest_of(*key)[:8], "big")
