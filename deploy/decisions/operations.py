"""What people (and the trainer) may do with candidates and the rollout: the one module that enforces the rules.

The command line and the admin API both call it. Each operation gathers, lets a pure function decide (`gate`, `approval`,
`rollout`), and stores the outcome together with its history, in one transaction. What only looks is in `looking`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from deploy.control.history import Entry
from deploy.control.records import Approval, Candidate, Objection, Seal
from deploy.control.shadows import read_shadow
from deploy.control.trainings import TrainingRequest
from deploy.control.transaction import Transaction
from deploy.decisions.evidence import Report, policy_of
from deploy.decisions.moves import apply, start
from deploy.decisions.shadowing import Shadowing, begin, end, waiting
from deploy.decisions.standing import standing
from deploy.decisions.views import too_early
from deploy.errors import Refused
from deploy.rules import approval, rollout
from deploy.rules import shadow as shadow_rules
from deploy.rules.approval import Policy, evidence_of
from deploy.rules.names import short
from deploy.rules.rollout import Command, Rollout, Serving
from deploy.text import plain

MAX_REASON = 2_000


class Operations(Shadowing):
    """Rules and store together; any thread may use it. The kill switch works beside a broken trimtab.toml too."""

    def approve(
        self, prefix: str, *, evidence: str, reason: str, actor: str, override_hold: bool = False
    ) -> dict[str, Any]:
        """Start the rollout of a candidate, on the evidence of the seal that is named. Raises Refused, else Failed."""
        reason = one_line(reason)
        self._refuse_without_adapters()
        with self.control.read() as tx:
            digest = tx.candidate(prefix).digest
        report, now = self._room.verified(digest), self._clock.now_us()  # hashing weights takes its time
        with self.control.change() as tx:
            candidate = tx.candidate(digest)
            _refuse_objected(tx, digest)
            if candidate.rejected_by is not None:
                raise Refused(f"{short(digest)} was rejected by {candidate.rejected_by}: train another candidate")
            seal = tx.sealed(digest, evidence) if len(evidence.strip()) >= approval.MIN_PREFIX else None
            if seal is None:
                raise Refused(
                    f"{evidence[:64]!r} is no seal of {short(digest)}: look again with `trimtab show {short(digest)}`"
                )
            sealed = evidence_of(seal.evidence)
            present = self._room.evidence(tx, candidate, report, sealed.policy, now)
            approval.check(sealed, present, now, reason=reason, override_hold=override_hold)
            start(tx, candidate, seal, actor, reason, override_hold, now)
            return self._view(tx, tx.candidate(digest))

    def reject(self, prefix: str, *, reason: str, actor: str) -> dict[str, Any]:
        """Say no for good. Refused once its rollout is under way, or over."""
        reason, now = one_line(reason), self._clock.now_us()
        if not reason:
            raise Refused("a rejection needs a reason: add --reason with a sentence for whoever trains next")
        with self.control.change() as tx:
            candidate = tx.candidate(prefix)
            if candidate.state not in ("held", "passed", "rejected", "rolled_back"):
                raise Refused(f"{short(candidate.digest)} is {candidate.state}: {_instead(candidate, tx.serving())}")
            if candidate.rejected_by is None:
                tx.move(candidate.digest, "rejected", None, rejected_by=actor)
                tx.append(Entry(now, actor, "reject", candidate.digest, candidate.state, "rejected", reason))
            return self._view(tx, tx.candidate(candidate.digest))

    def object(self, prefix: str, *, reason: str, actor: str, withdraw: bool = False) -> dict[str, Any]:
        """Block this candidate's approval and its next shares, whatever the evidence says; or withdraw all that was objected."""
        reason, now = one_line(reason), self._clock.now_us()
        if not reason:
            raise Refused(
                "an objection needs a reason, and so does its end: add --reason with a sentence for whoever reads it"
            )
        with self.control.change() as tx:
            candidate = tx.candidate(prefix)
            if withdraw and not tx.objections(candidate.digest):
                raise Refused(f"nobody objects to {short(candidate.digest)}: there is nothing to withdraw")
            if withdraw:
                tx.withdraw_objections(candidate.digest, now)
            else:
                tx.add_objection(Objection(candidate.digest, now, actor, reason))
                shadow = read_shadow(tx.connection)
                if shadow is not None and shadow.candidate == candidate.digest:
                    end(tx, shadow, "objected", actor, reason, now)
            action = "withdraw" if withdraw else "object"
            tx.append(Entry(now, actor, action, candidate.digest, candidate.state, candidate.state, reason))
            return self._view(tx, candidate)

    def start_shadow(self, prefix: str, *, reason: str, actor: str) -> dict[str, Any]:
        """Put this candidate into the shadow, in place of the one that is there. Raises Refused, else Failed."""
        reason, now, settings = one_line(reason), self._clock.now_us(), self._settings()
        if not reason:
            raise Refused("a person's choice needs a reason: add --reason with a sentence for whoever asks later")
        with self.control.change() as tx:
            candidate, under_way = tx.candidate(prefix), read_shadow(tx.connection)
            (seen,) = waiting(tx, [candidate])
            shadow_rules.check_start(seen, tx.serving(), settings.shadow, settings.engine.takes_adapters)
            if under_way is None or under_way.candidate != candidate.digest:
                if under_way is not None:
                    end(tx, under_way, "stopped", actor, f"{short(candidate.digest)} instead: {reason}", now)
                begin(tx, candidate, settings.shadow, actor, reason, now)
            return self._view(tx, tx.candidate(candidate.digest))

    def stop_shadow(self, *, reason: str, actor: str) -> dict[str, Any]:
        """Take the candidate out of the shadow that is there; it comes back only where a person says so. Raises Refused."""
        reason, now = one_line(reason), self._clock.now_us()
        with self.control.change() as tx:
            under_way = read_shadow(tx.connection)
            if under_way is None:
                raise Refused("no candidate is in the shadow: there is nothing to stop")
            end(tx, under_way, "stopped", actor, reason or "no reason was given", now)
            return self._view(tx, tx.candidate(under_way.candidate))

    def answer_training(
        self, name: str, answer: Literal["approved", "rejected"], *, reason: str, actor: str
    ) -> TrainingRequest:
        """Say yes or no to `training-7`, where `approve.before` names "train"."""
        reason = one_line(reason)
        if not reason:
            raise Refused("an answer needs a reason: add --reason with a sentence for whoever asks later")
        return self.control.trainings.answer(name, answer, actor, reason, self._clock.now_us())

    # The rollout. `expect` is the revision that the command was meant for: on another one it is refused.

    def promote(
        self, *, actor: str, reason: str = "", expect: str | None = None, override_hold: bool = False
    ) -> dict[str, Any]:
        """To the next share, or to full, once the gate has been asked again by the policy that was approved, and the share that
        runs has shown what it is to show (where the controller looks at it)."""
        reason = one_line(reason)
        self._refuse_without_adapters()
        with self.control.read() as tx:
            under_way = tx.serving().rollout
        report = self._room.verified(under_way.candidate) if under_way is not None else None
        now = self._clock.now_us()
        with self.control.change() as tx:
            serving = tx.serving()
            _expected(serving, expect)
            policy = policy_of(self._settings())
            if serving.rollout is not None:
                _refuse_objected(tx, serving.rollout.candidate)
            if serving.rollout is not None and not serving.halted and serving.rollout.state != "paused":
                if report is None or under_way is None or under_way.candidate != serving.rollout.candidate:
                    raise Refused("the rollout has just changed: look at `trimtab candidates`, then promote again")
                policy = self._still_good(tx, serving.rollout, report, policy, reason, override_hold, actor, now)
                _refuse_early(tx, serving, reason, override_hold)
            command = rollout.Promote(policy.shares, policy.expires_s * 1_000_000)
            return self._served(tx, apply(tx, serving, command, "promote", actor, reason, now))

    def pause(self, *, actor: str, reason: str = "", expect: str | None = None) -> dict[str, Any]:
        """Keep the canary at its share until `resume`."""
        return self._command(rollout.Pause(), "pause", actor, reason, expect)

    def resume(self, *, actor: str, reason: str = "", expect: str | None = None) -> dict[str, Any]:
        """Lift the halt, else the pause; refused where the engine could not serve what would be served again."""
        return self._command(rollout.Resume(), "resume", actor, reason, expect, self._refuse_unservable)

    def refuse_unservable(self) -> None:
        """Raises Refused where the engine takes no adapters and one is to be served."""
        with self.control.read() as tx:
            self._refuse_unservable(tx.serving())

    def rollback(
        self, *, actor: str, reason: str = "", expect: str | None = None, incumbent: bool = False
    ) -> dict[str, Any]:
        """End the rollout under way; `incumbent`: where there is none, go back to the earlier incumbent."""
        return self._command(rollout.Rollback(incumbent), "rollback", actor, reason, expect)

    def halt(self, *, actor: str, reason: str = "", expect: str | None = None) -> dict[str, Any]:
        """The kill switch: the bare base serves everything until `resume`. Always possible."""
        return self._command(rollout.Halt(), "halt", actor, reason, expect)

    # Below here: how it is done.

    def _command(
        self,
        command: Command,
        action: str,
        actor: str,
        reason: str,
        expect: str | None,
        check: Callable[[Serving], None] = lambda _: None,
    ) -> dict[str, Any]:
        """`check` refuses what the command would come to."""
        reason, now = one_line(reason), self._clock.now_us()
        with self.control.change() as tx:
            serving = tx.serving()
            _expected(serving, expect)
            after = apply(tx, serving, command, action, actor, reason, now)
            check(after)
            if after == serving and reason:  # it was so already, and somebody says why once more
                state, subject = standing(serving)
                tx.append(Entry(now, actor, action, subject, state, state, reason))
            return self._served(tx, after)

    def _refuse_unservable(self, serving: Serving) -> None:
        if serving.halted or serving.adapter is None or self._takes_adapters():
            return
        back = "rollback" if serving.rollout is not None else "rollback --incumbent"
        raise Refused(
            f"this engine takes no adapters (engine.kind is {self._settings().engine.kind!r}), and {short(serving.adapter)} is "
            f"to be served: `trimtab {back}` takes it out of service; a server that loads adapters is engine.kind = 'vllm'"
        )

    def _refuse_without_adapters(self) -> None:
        if not (engine := self._settings().engine).takes_adapters:
            raise Refused(
                f"this engine takes no adapters (engine.kind is {engine.kind!r}), so no candidate can be served: a server "
                f"that loads them is engine.kind = 'vllm'"
            )

    def _still_good(
        self,
        tx: Transaction,
        under_way: Rollout,
        report: Report,
        configured: Policy,
        reason: str,
        override_hold: bool,
        actor: str,
        now: int,
    ) -> Policy:
        """The policy that was approved, once the gate was asked again by it; raises Refused where the step may not be taken."""
        candidate = tx.candidate(under_way.candidate)
        approved = tx.seal(tx.approvals(candidate.digest)[0].seal)
        if approved.version is None:  # approved before reasons were data: outcome and incumbent are all that compares
            present = self._room.evidence(tx, candidate, report, configured, now)
            _check_old(approved, present.outcome, present.incumbent, candidate.digest)
            return configured
        sealed = evidence_of(approved.evidence)
        present = self._room.evidence(tx, candidate, report, sealed.policy, now)
        if under_way.state == "approved" and (changed := list(approval.changes(sealed, present))):
            raise Refused(
                f"the evidence for {short(candidate.digest)} is no longer what was approved ({'; '.join(changed)}): "
                f"look again with `trimtab show {short(candidate.digest)}` and approve it anew"
            )
        approval.check_step(sealed, present, reason=reason, override_hold=override_hold)
        if override_hold and approval.worse(sealed, present):
            seal = self._room.seal(tx, candidate, report, sealed.policy, now)
            tx.add_approval(Approval(under_way.id, now, candidate.digest, seal.seal, actor, reason, True))
        return sealed.policy


def _refuse_early(tx: Transaction, serving: Serving, reason: str, override_hold: bool) -> None:
    """Raises Refused where it is too early for the next share, as far as the controller looks at it."""
    look = tx.look(serving.rollout.id) if serving.rollout is not None and serving.rollout.share else None
    why = too_early(look, serving) if look is not None else None
    if why is not None and not override_hold:
        raise Refused(
            f"it is too early for the next share: {why}. `trimtab status` says when it is to be expected; add --override-hold "
            f"and --reason if you know better"
        )
    if why is not None and not reason:
        raise Refused(
            "going on before the evidence needs a reason: add --reason with a sentence for whoever asks later"
        )


def one_line(text: str) -> str:
    """A reason as it is stored: without control characters, at most 2,000 characters."""
    return " ".join(plain(text).replace("\0", " ").split())[:MAX_REASON]


def _refuse_objected(tx: Transaction, digest: str) -> None:
    if objections := tx.objections(digest):
        said = "; ".join(f"{one.actor} objects: {one.reason}" for one in objections)
        raise Refused(
            f"{said}. Talk to them; `trimtab object {short(digest)} --withdraw --reason …` ends it, and the history says who did"
        )


def _instead(candidate: Candidate, serving: Serving) -> str:
    """What to do with one that can't be rejected any more, or not yet."""
    if serving.rollout is not None and serving.rollout.candidate == candidate.digest:
        return "`trimtab rollback` takes it out of service"
    if serving.incumbent == candidate.digest:
        return "`trimtab rollback --incumbent` takes it out of service, once no rollout is under way"
    return "`trimtab show` says what became of it"


def _expected(serving: Serving, expect: str | None) -> None:
    if expect is not None and expect.strip().lower() != serving.revision:
        raise Refused(
            f"this was meant for another state ({expect[:20]}; it is {serving.revision} now): look with `trimtab status`, "
            f"then decide again"
        )


def _check_old(approved: Seal, outcome: str, incumbent: str | None, digest: str) -> None:
    if outcome != approved.decision or incumbent != approved.evidence["incumbent"]:
        raise Refused(
            f"the evidence for {short(digest)} is no longer what was approved: `trimtab rollback`, then look again with "
            f"`trimtab show {short(digest)}`"
        )
