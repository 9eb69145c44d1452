"""Reads and changes of the control database that happen together or not at all. No rule is in here."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from deploy.control import history, schema
from deploy.control.assignments import read_serving
from deploy.control.history import Entry
from deploy.control.records import Approval, Candidate, Objection, Period, RolloutLook, Seal, UnknownCandidate
from deploy.rules.approval import VERSION
from deploy.rules.assignment import Routing
from deploy.rules.rollout import CandidateState, Serving, Stage


class Transaction:
    """Reads and changes that happen together or not at all."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def candidates(
        self,
        limit: int | None = None,
        after: Candidate | None = None,
        states: Collection[CandidateState] | None = None,
    ) -> list[Candidate]:
        """Newest first: all, or a page of those that come after one, or those in some states."""
        table = schema.candidates
        query = select(table).order_by(table.c.created_at_us.desc(), table.c.digest.desc()).limit(limit)
        if after is not None:
            place = (table.c.created_at_us < after.created_at_us) | (
                (table.c.created_at_us == after.created_at_us) & (table.c.digest < after.digest)
            )
            query = query.where(place)
        if states is not None:
            query = query.where(table.c.state.in_(states))
        return [Candidate(**row._asdict()) for row in self.connection.execute(query)]

    def count_by_state(self) -> dict[str, int]:
        """How many candidates are in each state."""
        table = schema.candidates
        rows = self.connection.execute(select(table.c.state, func.count().label("number")).group_by(table.c.state))
        return {row.state: row.number for row in rows}

    def waiting_since_us(self, overtaken_us: int) -> int | None:
        """Since when the oldest candidate that was made after a moment has waited for a yes or a no; None where none waits."""
        table = schema.candidates
        waits = table.c.state.in_(("held", "passed")) & (table.c.created_at_us > overtaken_us)
        return self.connection.execute(select(func.min(table.c.registered_at_us)).where(waits)).scalar()

    def digests(self) -> frozenset[str]:
        """Of all candidates."""
        return frozenset(self.connection.execute(select(schema.candidates.c.digest)).scalars())

    def candidate(self, prefix: str) -> Candidate:
        """The one candidate whose digest begins so. Raises UnknownCandidate, naming the matches."""
        table = schema.candidates
        wanted = prefix.strip().lower().removeprefix("tt-")
        starts = table.c.digest.startswith(wanted, autoescape=True)
        query = select(table).where(starts).order_by(table.c.digest).limit(6)
        rows = self.connection.execute(query).all() if _names_something(wanted) else []
        if len(rows) == 1:
            return Candidate(**rows[0]._asdict())
        if not rows:
            raise UnknownCandidate(f"there is no candidate {prefix[:80]!r}: `trimtab candidates` lists them")
        matches = ", ".join(row.digest[: len(wanted) + 6] for row in rows[:5]) + (" …" if len(rows) > 5 else "")
        raise UnknownCandidate(f"more than one candidate begins with {prefix!r}: {matches}")

    def knows(self, digest: str) -> bool:
        found = self.connection.execute(
            select(schema.candidates.c.digest).where(schema.candidates.c.digest == digest)
        ).one_or_none()
        return found is not None

    def add_candidate(self, candidate: Candidate) -> None:
        self.connection.execute(insert(schema.candidates).values(dataclasses.asdict(candidate)))

    def move(self, digest: str, state: CandidateState, stage: Stage | None, rejected_by: str | None = None) -> None:
        """Give the candidate this state; stage None leaves that as it was."""
        values: dict[str, Any] = {"state": state, "rejected_by": rejected_by} | ({"stage": stage} if stage else {})
        self.connection.execute(update(schema.candidates).where(schema.candidates.c.digest == digest).values(values))

    def seals(self, candidates: Iterable[Candidate]) -> dict[str, Seal]:
        """The latest seal of each candidate that has one, by digest."""
        names = [candidate.seal for candidate in candidates if candidate.seal is not None]
        rows = self.connection.execute(select(schema.seals).where(schema.seals.c.seal.in_(names)))
        return {row.candidate: Seal(**row._asdict()) for row in rows}

    def current_seal(self, candidate: Candidate) -> Seal | None:
        """The latest seal of this candidate; None before the first, and where that is of a version before."""
        return self.seals([candidate]).get(candidate.digest)

    def seal(self, name: str) -> Seal:
        """The seal of this full name."""
        return Seal(**self.connection.execute(select(schema.seals).where(schema.seals.c.seal == name)).one()._asdict())

    def sealed(self, digest: str, name: str) -> Seal | None:
        """The candidate's seal whose name begins so, of this version; None where there is none, or more than one."""
        table, wanted = schema.seals, name.strip().lower()
        if not _names_something(wanted):
            return None
        mine = (table.c.candidate == digest) & (table.c.version == VERSION)
        found = self.connection.execute(
            select(table).where(mine, table.c.seal.startswith(wanted, autoescape=True)).limit(2)
        ).all()
        return Seal(**found[0]._asdict()) if len(found) == 1 else None

    def add_seal(self, seal: Seal) -> None:
        """Keep the evidence as the candidate's latest; the same seal again is fine."""
        known = self.connection.execute(select(schema.seals.c.seal).where(schema.seals.c.seal == seal.seal)).first()
        if known is None:
            values = dataclasses.asdict(seal) | {"reasons": list(seal.reasons)}
            self.connection.execute(insert(schema.seals).values(values))
        table = schema.candidates
        self.connection.execute(update(table).where(table.c.digest == seal.candidate).values(seal=seal.seal))

    def add_approval(self, approval: Approval) -> None:
        self.connection.execute(insert(schema.approvals).values(dataclasses.asdict(approval)))

    def approvals(self, digest: str) -> list[Approval]:
        """Those of this candidate, newest first."""
        table = schema.approvals
        columns = [table.c[field.name] for field in dataclasses.fields(Approval)]
        rows = self.connection.execute(select(*columns).where(table.c.candidate == digest).order_by(table.c.id.desc()))
        return [Approval(**row._asdict()) for row in rows]

    def add_objection(self, objection: Objection) -> None:
        self.connection.execute(insert(schema.objections).values(dataclasses.asdict(objection)))

    def objections(self, digest: str) -> list[Objection]:
        """Those that block this candidate, the oldest first."""
        table = schema.objections
        columns = [table.c[field.name] for field in dataclasses.fields(Objection)]
        open_ones = (table.c.candidate == digest) & table.c.withdrawn_at_us.is_(None)
        rows = self.connection.execute(select(*columns).where(open_ones).order_by(table.c.id))
        return [Objection(**row._asdict()) for row in rows]

    def withdraw_objections(self, digest: str, now_us: int) -> None:
        """None of them blocks it from here on."""
        table = schema.objections
        open_ones = (table.c.candidate == digest) & table.c.withdrawn_at_us.is_(None)
        self.connection.execute(update(table).where(open_ones).values(withdrawn_at_us=now_us))

    def serving(self) -> Serving:
        """What is served now, and the rollout under way."""
        return read_serving(self.connection)

    def save_serving(self, before: Serving, after: Serving, now_us: int) -> None:
        """Store what a transition made of `before`, which was read in this transaction."""
        if before.rollout is not None and after.rollout is None:
            full = after.incumbent == before.rollout.candidate
            self._save_rollout(
                before.rollout.id, {"state": "full" if full else "rolled_back", "share": 1.0 if full else 0.0,
                                    "ended_at_us": now_us}
            )  # fmt: skip
        rollout = after.rollout
        if rollout is not None:
            if before.rollout is None:
                values = dataclasses.asdict(rollout) | {"incumbent": after.incumbent}
                self.connection.execute(insert(schema.rollouts).values(values))
            else:
                self._save_rollout(
                    rollout.id,
                    {"state": rollout.state, "share": rollout.share, "approved_at_us": rollout.approved_at_us},
                )
        self.connection.execute(
            update(schema.serving)
            .where(schema.serving.c.id == 1)
            .values(incumbents=list(after.incumbents), rollout_id=rollout.id if rollout else None, halted=after.halted)
        )
        if after.routing != before.routing:
            self._begin_period(after.routing, now_us)

    def periods(self, rollout_id: str | None = None, limit: int | None = None) -> list[Period]:
        """Who served what from when to when, newest first; of one rollout, or of all."""
        table = schema.periods
        columns = [table.c[field.name] for field in dataclasses.fields(Period)]
        query = select(*columns).order_by(table.c.id.desc()).limit(limit)
        if rollout_id is not None:
            query = query.where(table.c.rollout_id == rollout_id)
        return [Period(**row._asdict()) for row in self.connection.execute(query)]

    def look(self, rollout_id: str) -> RolloutLook | None:
        """What the controller saw of this rollout last."""
        table = schema.looks
        row = self.connection.execute(select(table).where(table.c.rollout_id == rollout_id)).one_or_none()
        return RolloutLook(**row._asdict()) if row is not None else None

    def save_look(self, look: RolloutLook) -> None:
        """Keep it instead of the one before."""
        table = schema.looks
        self.connection.execute(delete(table).where(table.c.rollout_id == look.rollout_id))
        self.connection.execute(insert(table).values(dataclasses.asdict(look)))

    def rollbacks(self, digest: str) -> int:
        """How often this candidate was rolled back."""
        table = schema.history
        happened = (table.c.subject == digest) & (table.c.after == "rolled_back")
        return self.connection.execute(select(func.count()).select_from(table).where(happened)).scalar_one()

    def history(
        self, limit: int | None = None, subject: str | None = None, before: int | None = None
    ) -> Sequence[Entry]:
        """What happened, newest first: to one subject, or at all; `before`: entries with a smaller number."""
        return history.read(self.connection, limit, subject, before)

    def append(self, entry: Entry) -> None:
        """Write it into the history."""
        history.append(self.connection, entry)

    def _save_rollout(self, rollout_id: str, values: dict[str, Any]) -> None:
        self.connection.execute(update(schema.rollouts).where(schema.rollouts.c.id == rollout_id).values(values))

    def _begin_period(self, routing: Routing, now_us: int) -> None:
        table = schema.periods
        self.connection.execute(update(table).where(table.c.ended_at_us.is_(None)).values(ended_at_us=now_us))
        values = {name: getattr(routing, name) for name in ("incumbent", "rollout_id", "candidate", "share", "halted")}
        self.connection.execute(insert(table).values(started_at_us=now_us, **values))


def _names_something(prefix: str) -> bool:
    """What is empty would begin every name; what can't be printed begins none, and not every database takes it."""
    return bool(prefix) and prefix.isprintable()
