"""What a browser asks before OpenAI's client may, and what the page may read afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from deploy.web.cors import allow_pages

SHOP = "https://shop.example"
PREFLIGHTS = {
    "create, Chrome": "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version",
    "stream(), Firefox": "authorization,content-type,user-agent,x-stainless-arch,x-stainless-helper-method,"
    "x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout",
    "an organisation": "authorization,content-type,openai-organization,openai-project",
    "ours": "content-type,idempotency-key,x-request-id",
}
"""As they were recorded from npm's openai 6.49 (`dangerouslyAllowBrowser`), without what a browser never asks for."""


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, str]:
        return {"said": "all"}

    port = allow_pages(app, [SHOP], sent=["Idempotency-Key"], read=["X-Trimtab-Turn"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(port), base_url="http://127.0.0.1") as client:
        yield client


async def preflight(client: httpx.AsyncClient, headers: str, origin: str = SHOP) -> httpx.Response:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": headers}
    return await client.options("/v1/chat/completions", headers={"origin": origin} | asked)


@pytest.mark.parametrize("headers", PREFLIGHTS.values(), ids=PREFLIGHTS)
async def test_the_preflight_of_openais_client_is_answered_with_yes(client: httpx.AsyncClient, headers: str) -> None:
    answer = await preflight(client, headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert set(headers.split(",")) <= allowed


async def test_other_headers_and_other_pages_are_answered_with_no(client: httpx.AsyncClient) -> None:
    assert (await preflight(client, "x-evil")).status_code == 400
    refused = await preflight(client, "content-type", "https://evil.example")
    assert "access-control-allow-origin" not in refused.headers


async def test_the_page_may_read_the_turn_the_requests_id_and_when_to_come_again(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", headers={"origin": SHOP})
    assert answer.headers["access-control-allow-origin"] == SHOP
    read = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert read == {"x-trimtab-turn", "x-request-id", "retry-after"}


async def test_without_origins_no_page_is_let_in() -> None:
    app = FastAPI()
    assert allow_pages(app, [], sent=[], read=[]) is app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        assert "access-control-allow-origin" not in (await preflight(client, "content-type")).headers
