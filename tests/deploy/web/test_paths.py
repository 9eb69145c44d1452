"""Who asks for what is not there is told what there is."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from deploy.web.errors import install
from deploy.web.paths import routes_of


def app() -> FastAPI:
    made, router = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), APIRouter()

    @made.get("/here")
    def here() -> None: ...

    @router.post("/there")
    def there() -> None: ...

    made.include_router(router)
    install(made)
    return made


def test_a_path_that_is_not_there_lists_those_that_are() -> None:
    answer = TestClient(app()).get("/nowhere")
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert "/nowhere" in message
    assert "GET /here" in message
    assert "POST /there" in message


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes() -> None:
    answer = TestClient(app()).delete("/there")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["message"] == "this path takes POST, not DELETE"


def test_routers_that_were_included_count() -> None:
    assert {route.path for route in routes_of(app().routes)} == {"/here", "/there"}
