"""A refused adapter is told once for each reason and each use, tried again after a while, and counted each time."""

from __future__ import annotations

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.engine.refusing import RETRY_S, Refusal, due, refuse
from deploy.rules.assignment import Routing
from models.adapters import engine_name

DIGEST = "a" * 64
NAME = engine_name(DIGEST)


def counted() -> dict[str, float]:
    name = "trimtab_adapter_load_failures_total"
    return {role: REGISTRY.get_sample_value(name, {"role": role}) or 0 for role in ("incumbent", "by_name")}


def test_it_is_told_again_only_where_reason_or_use_is_another() -> None:
    before, serves = counted(), Routing(DIGEST, None, None, 0.0, False)
    with capture_logs() as logged:
        first = refuse(None, NAME, "no room", None, 1.0, error="no room")
        same = refuse(first, NAME, "no room", None, 2.0, error="no room")
        other = refuse(same, NAME, "no file", None, 3.0, error="no file")
        serving = refuse(other, NAME, "no file", serves, 4.0, error="no file")
    assert (first, same) == (Refusal("no room", 1.0, "by_name"), Refusal("no room", 1.0, "by_name"))
    assert (other.role, serving.role) == ("by_name", "incumbent")
    assert counted() == {"by_name": before["by_name"] + 2, "incumbent": before["incumbent"] + 1}
    assert [(line["adapter"], line["role"], line["error"]) for line in logged] == [
        (NAME, "by_name", "no room"),
        (NAME, "by_name", "no file"),
        (NAME, "incumbent", "no file"),
    ]


def test_as_long_as_it_fails_each_try_is_counted_so_that_its_page_does_not_end_by_itself() -> None:
    before, refused = counted()["by_name"], None
    with capture_logs() as logged:
        for second in range(int(3 * RETRY_S)):  # seen at each look, tried each half minute
            refused = refuse(refused, NAME, "no room", None, float(second), error="no room")
    assert (counted()["by_name"] - before, len(logged)) == (3, 1)


def test_it_is_tried_at_once_and_then_after_a_while() -> None:
    assert due(None, 0.0)
    refused = refuse(None, NAME, "no room", None, 10.0)
    assert not due(refused, 10.0 + RETRY_S - 1)
    assert due(refused, 10.0 + RETRY_S)
