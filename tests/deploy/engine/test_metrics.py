"""What an adapter is wanted for, as the figures have it."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from deploy.engine.metrics import ROLES, role_of, show_loaded
from deploy.rules.assignment import Routing, Shadow
from models.adapters import engine_name
from tests.deploy.engine.replies import A, B, C, failures

SHADOWED = Routing(incumbent=A, shadow=Shadow("s", B, 1, 1, 2, "5a" * 32))
UNDER_ROLLOUT = Routing(incumbent=A, candidate=B, rollout_id="r", share=0.5)


@pytest.mark.parametrize(
    ("digest", "routing", "role"),
    [
        (A, SHADOWED, "incumbent"),
        (B, SHADOWED, "shadow"),
        (B, UNDER_ROLLOUT, "candidate"),
        (C, UNDER_ROLLOUT, "by_name"),
        (A, None, "by_name"),
        (A, Routing(incumbent=A, shadow=Shadow("s", A, 1, 1, 2, "5a" * 32)), "incumbent"),
    ],
)
def test_the_role_is_the_most_wanted_that_the_routing_says(digest: str, routing: Routing | None, role: str) -> None:
    assert role_of(engine_name(digest), routing) == role


def test_every_role_is_there_before_anything_failed() -> None:
    assert [failures(role) >= 0 for role in ROLES] == [True] * len(ROLES)


def test_what_is_loaded_is_shown_with_its_role_and_what_was_is_not() -> None:
    show_loaded([A, B], SHADOWED)
    show_loaded([B, C], UNDER_ROLLOUT)
    shown = {
        (digest, role): REGISTRY.get_sample_value(
            "trimtab_adapter_info", {"adapter": engine_name(digest), "role": role}
        )
        for digest in (A, B, C)
        for role in ROLES
    }
    assert {at for at, value in shown.items() if value is not None} == {(B, "candidate"), (C, "by_name")}
