"""The admin port of every role: whether it lives, whether it can work, and its metrics."""

from __future__ import annotations

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from deploy.console.port import admin_app


def test_it_lives_while_it_waits_and_says_what_it_waits_for() -> None:
    waiting: list[str | None] = ["the base model is being loaded"]
    client = TestClient(admin_app(lambda: waiting[0]))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reason": waiting[0]})
    assert client.get("/healthz").json() == {"status": "ok"}
    waiting[0] = None
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_the_metrics_are_what_prometheus_reads() -> None:
    answer = TestClient(admin_app(lambda: None)).get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    assert "python_info" in {family.name for family in text_string_to_metric_families(answer.text)}


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
def test_there_is_no_other_page(path: str) -> None:
    assert TestClient(admin_app(lambda: None)).get(path).status_code == 404


def test_the_document_is_of_the_operations_and_not_of_what_machines_look_at() -> None:
    router = APIRouter(prefix="/admin/v1")
    router.get("/rollout")(lambda: {"halted": False})
    client = TestClient(admin_app(lambda: None, [router]))
    assert list(client.get("/openapi.json").json()["paths"]) == ["/admin/v1/rollout"]
    assert client.get("/admin/v1/rollout").json() == {"halted": False}
