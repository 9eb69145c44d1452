"""Why things stand still: since they do, and by everybody who said so."""

from __future__ import annotations

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.decisions.standing import because, standing
from deploy.rules.rollout import Rollout, Serving

A, B = "a" * 64, "b" * 64


def test_a_halt_is_of_the_whole_service_whatever_rollout_is_under_way() -> None:
    rollout = Rollout("r", B, "paused", 0.5, 1)
    assert standing(Serving((None, A))) == ("serving", None)
    assert standing(Serving((None, A), rollout)) == ("paused", B)
    assert standing(Serving((None, A), rollout, halted=True)) == ("halted", None)


def test_only_what_was_said_since_it_stands_still_counts(control: Control, rules: Operations) -> None:
    for reasons in (["smoke"], ["fire", "and water"]):
        for reason in reasons:
            rules.halt(actor="ada", reason=reason)
        with control.read() as tx:
            assert [one["reason"] for one in because(tx, tx.serving())] == reasons
        rules.resume(actor="ada")
    with control.read() as tx:
        assert because(tx, tx.serving()) == []
