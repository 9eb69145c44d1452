"""The admin API: the command line's rules over HTTP, with scopes and OpenAI-shaped errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from deploy.console.api import admin_router
from deploy.console.port import admin_app
from deploy.decisions.operations import Operations
from tests.deploy.candidates import make_candidate
from tests.fakes import CLOCK

ACTIONS = ("promote", "pause", "resume", "rollback", "halt")


def client_of(rules: Operations, require_keys: bool) -> TestClient:
    app = admin_app(lambda: None, [admin_router(rules, CLOCK, require_keys=require_keys)])
    return TestClient(app, base_url="http://127.0.0.1:8401")


@pytest.fixture
def digest(rules: Operations, folder: Path) -> str:
    made = make_candidate(folder)
    rules.register(made)
    return made


@pytest.fixture
def client(rules: Operations) -> TestClient:
    return client_of(rules, require_keys=False)


@pytest.fixture
def bearer(rules: Operations) -> Callable[..., dict[str, str]]:
    def make(*scopes: str) -> dict[str, str]:
        token, _ = rules.control.keys.create("console", "default", scopes, "ada", CLOCK.now_us())
        return {"authorization": f"Bearer {token}"}

    return make


def test_a_candidate_is_approved_promoted_and_halted_over_http(client: TestClient, digest: str) -> None:
    (view,) = client.get("/admin/v1/candidates").json()
    assert client.get(f"/admin/v1/candidates/{digest[:8]}").json()["report"]["snapshot"] == view["snapshot"]
    body = {"evidence": view["evidence"], "reason": "reads well", "override_hold": True}
    assert client.post(f"/admin/v1/candidates/{digest}/approve", json=body).json()["state"] == "approved"
    for action in ACTIONS[:3]:
        assert client.post(f"/admin/v1/{action}", json={}).status_code == 200
    assert client.get("/admin/v1/rollout").json()["rollout"]["share"] == 0.05
    assert client.post("/admin/v1/halt", json={"reason": "panic"}).json()["halted"]
    assert client.post("/admin/v1/rollback", json={}).json()["rollout"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/admin/v1/promote", {}, 409, "refused"),
        ("/admin/v1/candidates/nope/reject", {"reason": "r"}, 404, "not_found"),
        ("/admin/v1/halt", {"because": "r"}, 400, "invalid_value"),
        ("/admin/v1/trainings/training-1/approve", {"reason": "r"}, 503, "failed"),
    ],
)
def test_errors_have_openais_shape(client: TestClient, path: str, body: dict[str, str], status: int, code: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], sorted(error)) == (code, ["code", "message", "param", "type"])


def test_without_a_key_nothing_is_answered_where_keys_are_required(rules: Operations, digest: str) -> None:
    client = client_of(rules, require_keys=True)
    wrong = {"authorization": "Bearer tt_wrong"}
    for headers in ({}, wrong):
        assert client.get("/admin/v1/candidates", headers=headers).status_code == 401
        for action in ACTIONS:
            answer = client.post(f"/admin/v1/{action}", json={}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not rules.serving()["halted"]


def test_each_scope_opens_its_own_part_only(
    rules: Operations, digest: str, bearer: Callable[..., dict[str, str]]
) -> None:
    client = client_of(rules, require_keys=True)
    requests = {
        "read": ("GET", "/admin/v1/candidates", None),
        "operate": ("POST", "/admin/v1/halt", {}),
        "approve": ("POST", f"/admin/v1/candidates/{digest}/reject", {"reason": "r"}),
    }
    for scope in requests:
        headers = bearer(scope, "chat")
        for needed, (method, path, body) in requests.items():
            status = client.request(method, path, json=body, headers=headers).status_code
            assert status == (200 if needed == scope else 403)
    assert rules.control.history()[0].actor.startswith("key console (")


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}, {"host": ""}]
)
def test_without_keys_another_sites_page_reaches_nothing(
    client: TestClient, rules: Operations, headers: dict[str, str]
) -> None:
    assert client.post("/admin/v1/halt", json={}, headers=headers).status_code == 403
    assert not rules.serving()["halted"]


def test_a_form_that_any_page_may_send_is_not_taken_for_json(client: TestClient, rules: Operations) -> None:
    answer = client.post("/admin/v1/halt", content="{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert not rules.serving()["halted"]


def test_every_operation_is_in_the_openapi_document(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {f"/admin/v1/{action}" for action in ACTIONS} < set(paths)
    assert paths["/admin/v1/halt"]["post"]["description"].startswith("The kill switch")
