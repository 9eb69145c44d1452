"""Health: alive, and ready by duty and by role; strangers are not told why not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from deploy.web.errors import install
from deploy.web.health import Health, health_router


async def ask(health: Health, path: str, *, method: str = "GET", say_why: bool = True) -> httpx.Response:
    app = FastAPI()
    install(app)
    app.include_router(health_router(health, say_why=say_why))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        return await client.request(method, path)


def health(chat: str | None = None, intake: str | None = None, trainer: str | None = None) -> Health:
    async def others() -> dict[str, str | None]:
        return {"controller": None, "trainer": trainer}

    return Health(lambda: chat, {"chat": lambda: chat, "intake": lambda: intake}, others)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?duty=chat"])
async def test_head_is_answered_as_get_without_a_body(path: str) -> None:
    whole, head = await ask(health(), path), await ask(health(), path, method="HEAD")
    assert (whole.status_code, head.status_code) == (200, 200)
    head = await ask(health(chat="the engine is loading"), path, method="HEAD")
    assert head.status_code == (200 if path == "/healthz" else 503)


async def test_each_duty_is_ready_by_itself() -> None:
    loading = health(chat="the engine is loading")
    answer = await ask(loading, "/readyz?duty=chat")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reason": "the engine is loading"})
    answer = await ask(loading, "/readyz?duty=intake")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    answer = await ask(loading, "/readyz")
    assert answer.status_code == 503
    assert answer.json()["duties"] == {"chat": "the engine is loading", "intake": "ready"}


async def test_a_duty_that_is_none_is_a_400_that_names_those_there_are() -> None:
    answer = await ask(health(), "/readyz?duty=lunch")
    assert answer.status_code == 400
    assert "chat, intake" in answer.json()["error"]["message"]


async def test_one_address_speaks_for_all_roles_and_its_own_duties_go_on() -> None:
    late = health(trainer="it does not answer")
    answer = await ask(late, "/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "not ready: trainer")
    assert answer.json()["roles"] == {"controller": "ready", "trainer": "it does not answer"}
    assert (await ask(late, "/readyz?duty=chat")).status_code == 200


async def test_strangers_are_told_what_is_not_ready_and_not_why() -> None:
    answer = await ask(health(chat="/var/lib/base is broken", trainer="it does not answer"), "/readyz", say_why=False)
    said: dict[str, Any] = answer.json()
    assert said == {
        "status": "not ready",
        "duties": {"chat": "not ready", "intake": "ready"},
        "roles": {"controller": "ready", "trainer": "not ready"},
    }
