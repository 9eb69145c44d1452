"""People label pairs over HTTP: a key is a person, a bound key sees its tenant's pairs, and chats never wait for any of it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.control.store import Control
from deploy.decisions.operations import MAX_REASON
from deploy.gateway.feedback import MAX_BYTES
from deploy.gateway.labelling import label_of
from deploy.rules.comparing import Comparison
from deploy.web.errors import ApiError
from tests.deploy.gateways import NOW_US, Gateway, running
from tests.deploy.pairs import CANDIDATE, add_candidate, pair
from tests.fakes import CLOCK, until

PAGE = Path(__file__).parents[3] / "docs" / "label.md"
SAMPLED_US = CLOCK.now_us()
PAIRS = [pair(1, 2, SAMPLED_US), pair(2, 1, SAMPLED_US), replace(pair(3, 1, SAMPLED_US), tenant="acme")]


@pytest.fixture
async def gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    add_candidate(control)
    control.comparisons.add(PAIRS)
    async with running(control, folder, require_keys=True) as gateway:
        yield gateway


def key_of(gateway: Gateway, name: str, *scopes: str, tenant: str | None = None) -> str:
    """The token of a new key of this person."""
    return gateway.control.keys.create(name, tenant, scopes or ("label",), "ada", NOW_US)[0]


async def asked(gateway: Gateway, key: str) -> httpx.Response:
    async with gateway.http(key) as client:
        return await client.get("/v1/label/next")


async def says(gateway: Gateway, key: str, one: Comparison, answer: str, **more: Any) -> httpx.Response:
    async with gateway.http(key) as client:
        return await client.post("/v1/label", json={"id": one.id, "answer": answer} | more)


def labels(control: Control) -> dict[str, dict[str, float | None]]:
    """What was said, by pair and person."""
    stored = control.comparisons.of(CANDIDATE, None)
    return {one.id: {label.labeller: label.preference for label in one.labels} for one in stored}


async def test_a_person_is_asked_and_answers_until_nothing_is_left(gateway: Gateway) -> None:
    anna = key_of(gateway, "anna")
    for n, one in enumerate(PAIRS, 1):
        answer = await asked(gateway, anna)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        shown = answer.json()["pair"]
        assert shown.keys() == {"id", "locale", "prompt", "first", "second"}
        assert (shown["id"], shown["prompt"]) == (one.id, one.prompt)
        assert {shown["first"], shown["second"]} == {one.candidate_reply, one.incumbent_reply}
        better = "first" if shown["first"] == one.candidate_reply else "second"
        stored = await says(gateway, anna, one, better, reason="it answers")
        assert (stored.status_code, stored.json()["progress"]["labelled"]) == (200, n)
    done = await asked(gateway, anna)
    assert (done.status_code, done.content) == (204, b"")
    assert [said["anna"] for said in labels(gateway.control).values()] == [1.0, 1.0, 1.0]


async def test_two_keys_of_one_name_are_one_person(gateway: Gateway) -> None:
    laptop, phone = key_of(gateway, "anna"), key_of(gateway, "anna")
    first = await asked(gateway, laptop)
    assert first.json() == (await asked(gateway, phone)).json()
    await says(gateway, laptop, PAIRS[0], "tie")
    assert (await says(gateway, phone, PAIRS[0], "tie")).status_code == 200
    assert (await says(gateway, phone, PAIRS[0], "first")).status_code == 409


async def test_a_tenants_key_sees_and_answers_its_own_pairs_only(gateway: Gateway) -> None:
    acme, other = key_of(gateway, "ben", tenant="acme"), key_of(gateway, "cleo", tenant="other")
    answer = await asked(gateway, acme)
    assert (answer.json()["pair"]["id"], answer.json()["progress"]["wanted"]) == (PAIRS[2].id, 1)
    assert (await asked(gateway, other)).status_code == 204
    refused = await says(gateway, acme, PAIRS[0], "first")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


async def test_who_was_not_asked_or_is_too_late_is_told_so(gateway: Gateway) -> None:
    anna, ben, cleo = (key_of(gateway, name) for name in ("anna", "ben", "cleo"))
    assert (await says(gateway, anna, PAIRS[0], "first")).status_code == 409
    gateway.control.labelling.next("anna", None, 1, 0.0)  # fifty years ago
    for key in (ben, cleo):
        assert (await asked(gateway, key)).json()["pair"]["id"] == PAIRS[0].id
    late = await says(gateway, anna, PAIRS[0], "first")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "refused")
    assert "after ten minutes" in late.json()["error"]["message"]
    assert (await says(gateway, anna, pair(99), "first")).status_code == 404
    assert labels(gateway.control)[PAIRS[0].id] == {}


async def test_only_the_scope_label_opens_it(gateway: Gateway) -> None:
    others = key_of(gateway, "app", "chat", "feedback", "ingest", "read", "operate", "approve")
    for key, status in ((None, 401), ("tt_wrong", 401), (others, 403)):
        async with gateway.http(key) as client:
            for answer in (await client.get("/v1/label/next"), await client.post("/v1/label", json={})):
                assert (answer.status_code, answer.json()["error"].keys()) == (
                    status,
                    {"type", "code", "message", "param"},
                )
    assert not any(labels(gateway.control).values())


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "id", "missing_field"),
        ({"id": "x"}, "answer", "missing_field"),
        ({"id": 1, "answer": "first"}, "id", "invalid_type"),
        ({"id": "x", "answer": None}, "answer", "invalid_type"),
        ({"id": "x", "answer": "best"}, "answer", "invalid_value"),
        ({"id": "x", "answer": "tie", "reason": "x" * (MAX_REASON + 1)}, "reason", "invalid_value"),
        ({"id": "x", "answer": "tie", "labeller": "anna"}, "labeller", "unknown_field"),
        ({"id": "x", "answer": "tie", "\x1b[2J": "1"}, "\x1b[2J", "unknown_field"),
    ],
)
def test_a_body_that_is_no_label_is_refused_by_field(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        label_of(body)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


def test_a_reason_is_kept_on_one_line_without_control_characters() -> None:
    assert label_of({"id": "x", "answer": "tie", "reason": "no\n\x1bodds"}) == ("x", "tie", "no �odds")


def test_no_reason_is_no_reason_however_it_is_written() -> None:
    for none in ({}, {"reason": None}, {"reason": ""}):
        assert label_of({"id": "x", "answer": "tie"} | none) == ("x", "tie", "")


async def test_a_body_that_is_too_large_is_not_read(gateway: Gateway) -> None:
    async with gateway.http(key_of(gateway, "anna")) as client:
        answer = await client.post("/v1/label", content=b" " * (MAX_BYTES + 1))
    assert answer.status_code == 413


async def test_without_keys_whoever_is_on_this_machine_labels(control: Control, folder: Path) -> None:
    add_candidate(control)
    control.comparisons.add(PAIRS[:1])
    async with running(control, folder) as gateway, gateway.http() as client:
        shown = (await client.get("/v1/label/next")).json()["pair"]
        answer = await client.post("/v1/label", content=json.dumps({"id": shown["id"], "answer": "skip"}))
    assert answer.status_code == 200
    assert labels(control)[PAIRS[0].id] == {"loopback": None}


async def test_chats_go_on_while_somebody_else_holds_the_control_database(gateway: Gateway) -> None:
    anna, chat = key_of(gateway, "anna"), key_of(gateway, "app", "chat")
    hello: Any = [{"role": "user", "content": "Hello"}]
    await gateway.openai(chat).chat.completions.create(model="trimtab", messages=hello)
    with gateway.control.database.write():
        asking = asyncio.create_task(asked(gateway, anna))
        for _ in range(3):
            await gateway.openai(chat).chat.completions.create(model="trimtab", messages=hello)
        answer = await asking
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        assert answer.headers["retry-after"]
        assert gateway.link is not None
        assert gateway.link.missing() is None
    gateway.control.comparisons.add([pair(9, 1, SAMPLED_US)])

    async def answered() -> bool:
        return (await asked(gateway, anna)).status_code == 200

    await until(answered)


def documented() -> list[list[str]]:
    """The words of each curl command on the page."""
    lines = PAGE.read_text().replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("curl ")]


async def test_the_commands_of_the_docs_do_what_the_page_says(gateway: Gateway) -> None:
    token, ask, answer = key_of(gateway, "anna"), *documented()
    sent = dict(pairwise(answer))
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    assert [word for word in answer if word.lower().startswith(("authorization", "content-type"))] == [
        "Authorization: Bearer $TRIMTAB_KEY",
        "Content-Type: application/json",
    ]
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
        shown = (await client.get(_path(ask))).json()["pair"]
        stored = await client.post(_path(answer), content=sent["-d"].replace("THE-ID-OF-THE-PAIR", shown["id"]))
    assert (stored.status_code, stored.json()["answer"]) == (200, "first")
    told = gateway.control.comparisons.of(CANDIDATE, None)[0].labels[0]
    assert (told.labeller, told.reason) == ("anna", "it says when")


def _path(command: list[str]) -> str:
    return next(word for word in command if word.startswith("http")).split(":8400")[1]
