"""Blind comparisons in the gate: the pairs that a training brings along, and what has been said of all pairs by now.

The facts and the snapshots lie beside the candidates, in the state directory.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from deploy.control import comparisons
from deploy.control.records import Candidate
from deploy.control.transaction import Transaction
from deploy.rules.comparing import Comparison, Labelled, drawn, probability_of_people
from deploy.rules.weighing import Comparisons, weigh
from deploy.settings import Settings
from deploy.state import State
from feedback.dataset.snapshot import SnapshotError, learned_turns
from feedback.digests import digest_of
from feedback.facts.reader import Facts, FactsDamaged
from feedback.records import Message, TurnKey
from feedback.texts import storable

log = structlog.get_logger()

KEPT = 4
"""Snapshots whose learned turns are remembered: those of the newest candidates are looked at again and again."""

DIGITS = 64
"""Of a digest."""

_chance = secrets.SystemRandom()


class _Sample(Struct, frozen=True):
    """The part of a report's sample that becomes a comparison."""

    prompt: list[Message]
    candidate: str
    incumbent: str
    turn: TurnKey
    locale: str | None = None


class Comparing:
    """Makes comparisons of a candidate's samples, and counts what was said of all of its pairs. `settings` is called when needed."""

    def __init__(self, candidates: Path, settings: Callable[[], Settings]) -> None:
        self._state, self._settings = State(candidates.parent), settings
        self._learned: dict[str, frozenset[bytes]] = {}

    def sampled(self, candidate: Candidate, report: Mapping[str, Any], now_us: int) -> list[Comparison]:
        """The report's samples as comparisons, one of each user, with the draw of who is asked. Reads the facts: before a transaction."""
        incumbent, listed = report.get("incumbent"), report.get("samples")
        if not isinstance(listed, list) or not isinstance(incumbent, str | None) or len(incumbent or "") > DIGITS:
            return []
        samples = [one for value in listed if (one := _sample(value)) is not None]
        units = self._units({one.turn for one in samples})
        settings = self._settings()
        share = probability_of_people(settings.compare, settings.judge.asked)
        found = dict[tuple[str, str], Comparison]()
        for one in samples:
            tenant, conversation, turn = one.turn
            pair = Comparison(
                candidate=candidate.digest,
                incumbent=incumbent,
                origin="offline",
                tenant=tenant,
                conversation_id=conversation,
                turn_id=turn,
                unit=units.get(one.turn, conversation),
                locale=one.locale,
                prompt=one.prompt,
                candidate_reply=one.candidate,
                incumbent_reply=one.incumbent,
                people=0,
                probability=share,
                sampled_at_us=now_us,
                until_us=now_us + settings.compare.expires_s * 1_000_000,
            )
            draws = _chance.random(), _chance.random()
            found.setdefault((tenant, pair.unit), drawn(pair, settings.compare.second, draws))
        return list(found.values())

    def weighed(
        self, tx: Transaction, candidate: Candidate, incumbent: str | None, attempt: int, now_us: int
    ) -> Comparisons:
        """What the gate looks at."""
        pairs = comparisons.of(tx.connection, candidate.digest, incumbent)
        found = weigh(pairs, self._settings().judge.asked, now_us, attempt)
        try:
            return dataclasses.replace(found, leaked=self._leaked(candidate, pairs))
        except SnapshotError as error:
            return dataclasses.replace(found, lineage_unknown=str(error))

    def _leaked(self, candidate: Candidate, pairs: Sequence[Labelled]) -> tuple[str, ...]:
        """Turns of labelled pairs from which this candidate learned. An adapter grows from its base alone, so from one snapshot."""
        keys = [(pair.tenant, pair.conversation_id, pair.turn_id) for pair in pairs if pair.labels]
        if not keys:
            return ()
        learned = self._learned_from(candidate.snapshot)
        return tuple("/".join(key) for key in keys if digest_of(*key) in learned)

    def _learned_from(self, name: str) -> frozenset[bytes]:
        """A snapshot never changes: it is read once."""
        if name not in self._learned:
            if name != Path(name).name or name.startswith("."):
                raise SnapshotError(f"its report names a snapshot {ascii(name)[:80]}, which can't be one")
            fresh = learned_turns(self._state.snapshots / name)
            self._learned = dict([*self._learned.items(), (name, fresh)][-KEPT:])
        return self._learned[name]

    def _units(self, turns: set[TurnKey]) -> dict[TurnKey, str]:
        """Whose turns they are, where the facts know one user of each."""
        users: dict[TurnKey, set[str | None]] = {}
        try:
            for turn, _ in Facts(self._state.facts).turns_of(turns):
                users.setdefault(turn.key, set()).add(turn.user_id)
        except FactsDamaged as error:
            log.warning("users_unknown", error=str(error), instead="each conversation counts as one")
        named = {key: next(iter(found)) for key, found in users.items() if len(found) == 1}
        return {key: user for key, user in named.items() if user is not None}


def _sample(value: object) -> _Sample | None:
    """A sample that can be compared; None where it is of a report from before, or holds half a character, which no database takes."""
    try:
        one = msgspec.convert(value, _Sample)
        msgspec.json.encode(one)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    return msgspec.structs.replace(one, candidate=storable(one.candidate), incumbent=storable(one.incumbent))
