"""The page for people: it names every operation, and loads and runs nothing."""

from __future__ import annotations

import base64
import hashlib

from fastapi import APIRouter
from fastapi.testclient import TestClient

from deploy.console.port import admin_app


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
