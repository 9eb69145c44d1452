"""The admin port of every role: whether it lives, whether it can work, and its metrics."""

from __future__ import annotations

import base64
import hashlib

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


def test_the_page_for_people_loads_and_runs_nothing_from_anywhere() -> None:
    router = APIRouter(prefix="/admin/v1")

    @router.get("/rollout")
    def show(name: str = "<script>alert(1)</script>") -> None:
        """What is served <script src="https://cdn.example/x.js"></script>"""

    answer = TestClient(admin_app(lambda: None, [router])).get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["frame-ancestors"], policy["form-action"]) == ("'none'",) * 3
    assert policy.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors", "style-src"}
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    assert policy["style-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    assert "GET /admin/v1/rollout" in answer.text
    for loaded in ("<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "onload"):
        assert loaded not in answer.text.replace("&lt;script src=&quot;https", "")


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
def test_there_is_no_other_page(path: str) -> None:
    assert TestClient(admin_app(lambda: None)).get(path).status_code == 404


def test_the_document_is_of_the_operations_and_not_of_what_machines_look_at() -> None:
    router = APIRouter(prefix="/admin/v1")
    router.get("/rollout")(lambda: {"halted": False})
    client = TestClient(admin_app(lambda: None, [router]))
    assert list(client.get("/openapi.json").json()["paths"]) == ["/admin/v1/rollout"]
    assert client.get("/admin/v1/rollout").json() == {"halted": False}
