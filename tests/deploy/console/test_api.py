"""The admin API: the command line's rules over HTTP, with scopes and OpenAI-shaped errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from deploy.console.api import admin_router
from deploy.console.port import admin_app
from deploy.control import schema
from deploy.control.keys import SCOPES
from deploy.decisions.operations import Operations
from tests.deploy.candidates import make_candidate
from tests.fakes import CLOCK

ACTIONS = ("promote", "pause", "resume", "rollback", "halt")


def client_of(rules: Operations, require_keys: bool, trust_loopback: bool = False) -> TestClient:
    router = admin_router(rules, CLOCK, require_keys=require_keys, trust_loopback=trust_loopback)
    app = admin_app(lambda: None, [router])
    return TestClient(app, base_url="http://127.0.0.1:8401", client=("127.0.0.1", 50_000))


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
        token, _ = rules.control.keys.create("console", None, scopes, "ada", CLOCK.now_us())
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
        ("/admin/v1/candidates/nope/object", {"reason": "r"}, 404, "not_found"),
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


def test_a_tenants_key_sees_and_does_nothing_here_whatever_it_names(rules: Operations, digest: str) -> None:
    token, _ = rules.control.keys.create("old", None, SCOPES, "ada", CLOCK.now_us())
    with rules.control.database.write() as connection:
        connection.execute(update(schema.keys).values(tenant="acme"))  # as an earlier version made it
    before = (rules.serving(), rules.candidates(), rules.history())
    client, headers = client_of(rules, require_keys=True), {"authorization": f"Bearer {token}"}
    approval = {"evidence": rules.show(digest)["evidence"], "reason": "mine", "override_hold": True}
    asked: list[tuple[str, str, dict[str, object]]] = [
        *(("GET", path, {}) for path in ("candidates", f"candidates/{digest}", "rollout", "history", "shares")),
        *(("POST", action, {"reason": "mine"}) for action in ACTIONS),
        ("POST", f"candidates/{digest}/approve", approval),
        ("POST", f"candidates/{digest}/reject", {"reason": "mine"}),
        ("POST", f"candidates/{digest}/object", {"reason": "mine"}),
        ("POST", "trainings/training-1/approve", {"reason": "mine"}),
    ]
    for method, path, body in asked:
        answer = client.request(method, f"/admin/v1/{path}", json=body or None, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_bound")
        assert digest not in answer.text
        assert "trimtab keys create" in answer.json()["error"]["message"]
    assert (rules.serving(), rules.candidates(), rules.history()) == before


def test_with_a_key_in_the_store_this_machine_needs_one_unless_it_is_trusted(
    rules: Operations, digest: str, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    assert client.get("/admin/v1/candidates").status_code == 200
    key = bearer("read", "operate")
    assert client.post("/admin/v1/halt", json={}).status_code == 401
    assert client.get("/admin/v1/candidates").status_code == 401
    assert not rules.serving()["halted"]
    assert client.get("/admin/v1/candidates", headers=key).status_code == 200
    trusting = client_of(rules, require_keys=False, trust_loopback=True)
    assert trusting.get("/admin/v1/candidates").status_code == 200


def test_what_a_proxy_on_this_machine_passes_on_needs_a_key(client: TestClient, rules: Operations) -> None:
    answer = client.post("/admin/v1/halt", json={}, headers={"x-forwarded-for": "127.0.0.1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert not rules.serving()["halted"]


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
    page = client.get("/docs").text
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in page
    assert "override_hold" in page
    assert paths["/admin/v1/halt"]["post"]["description"].startswith("The kill switch")


def test_an_objection_over_http_blocks_until_it_is_withdrawn(rules: Operations, digest: str) -> None:
    client, path = client_of(rules, require_keys=False), f"/admin/v1/candidates/{digest}"
    approval = {"evidence": rules.show(digest)["evidence"], "reason": "r", "override_hold": True}
    assert client.post(f"{path}/object", json={"reason": "it flatters"}).status_code == 200
    refused = client.post(f"{path}/approve", json=approval)
    assert (refused.status_code, "objects: it flatters" in refused.json()["error"]["message"]) == (409, True)
    assert client.get(path).json()["objections"][0]["reason"] == "it flatters"
    assert client.post(f"{path}/object", json={"reason": "talked about", "withdraw": True}).status_code == 200
    assert client.post(f"{path}/approve", json=approval).status_code == 200
