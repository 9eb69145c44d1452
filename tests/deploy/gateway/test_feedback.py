"""Feedback on replies: what the turn id alone allows, and what needs a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.control.store import Control
from deploy.gateway.feedback import LONG, LONG_REST_S, MAX_BYTES, rating_event
from deploy.gateway.redaction_processes import RedactionProcesses, Unredactable
from deploy.gateway.turn_ids import TurnId, TurnIds
from deploy.web.errors import ApiError
from tests.deploy.gateway.test_redaction import WORST
from tests.deploy.gateways import KEY, Gateway, running
from tests.fakes import CLOCK

pytestmark = pytest.mark.slow


@pytest.fixture
async def open_gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder) as gateway:
        yield gateway


@pytest.fixture
async def gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder, require_keys=True) as gateway:
        yield gateway


def turn(conversation: str = "c-1", tenant: str = "acme") -> str:
    return TurnIds(KEY).seal(TurnId(tenant, conversation, "incumbent", None))


def altered(turn_id: str) -> str:
    """The same but for its last letter."""
    return turn_id[:-1] + ("A" if turn_id[-1] != "A" else "B")


def thumb(turn_id: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"turn_id": turn_id or turn(), "kind": "thumbs", "value": True} | fields


async def give(gateway: Gateway, body: dict[str, Any], key: str | None = None, **headers: str) -> httpx.Response:
    async with gateway.http(key, **headers) as client:
        return await client.post("/v1/feedback", json=body)


async def test_the_sealed_turn_id_is_all_that_is_needed(gateway: Gateway) -> None:
    chat = await gateway.openai(gateway.new_key("chat")).chat.completions.create(
        model="trimtab", messages=[{"role": "user", "content": "Hi"}]
    )
    answer = await give(gateway, {"turn_id": chat.id, "kind": "thumbs", "value": False})
    assert answer.status_code == 202
    served, rating = gateway.events()
    assert rating.pop("occurred_at_us") >= served["occurred_at_us"]
    assert 0 <= rating.pop("bucket", 0) < 100
    assert rating == {
        "event": "rating",
        "event_id": answer.json()["event_id"],
        "tenant": "acme",
        "conversation_id": served["conversation_id"],
        "turn_id": chat.id,
        "source": "user",
        "kind": "thumbs",
        "value": False,
        "origin": "feedback",
    }
    assert served["origin"] == "gateway"


async def test_each_choice_of_a_reply_is_rated_by_its_number_and_picked_over_another(gateway: Gateway) -> None:
    ids = TurnIds(KEY)
    reply = ids.seal(TurnId("acme", "c-1", "incumbent", None, choices=3))
    pick = thumb(reply, choice=2, kind="pick", value={"over_choice": 0})
    for body in (thumb(reply), thumb(reply, choice=1), pick):
        assert (await give(gateway, body, **{"Idempotency-Key": "one click"})).status_code == 202
    rated = gateway.events()
    assert [event["turn_id"] for event in rated] == [ids.choice(reply, choice) for choice in (0, 1, 2)]
    assert rated[2]["value"] == {"over": reply, "tie": False}
    assert len({event["event_id"] for event in rated}) == 3
    assert {event["conversation_id"] for event in rated} == {"c-1"}


async def test_feedback_is_taken_before_its_turn_is_known(gateway: Gateway) -> None:
    assert (await give(gateway, thumb())).status_code == 202
    assert [event["event"] for event in gateway.events()] == ["rating"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (thumb(altered(turn())), 400, "turn_id"),
        (thumb("some-turn", conversation_id="c"), 401, "turn_id"),
        ({"kind": "stars", "value": 5, "conversation_id": "c"}, 401, "turn_id"),
        (thumb(user_id="ann"), 403, "user_id"),
        (thumb(source="expert"), 403, "source"),
        (thumb(source="system"), 403, "source"),
        (thumb(source="judge"), 400, "source"),
        (thumb(source="root"), 400, "source"),
        (thumb(conversation_id="another"), 400, "conversation_id"),
        (thumb(kind="applause"), 400, "kind"),
        (thumb(kind="stars", value=6), 400, "value"),
        (thumb(value="yes"), 400, "value"),
        (thumb(mood="good"), 400, "mood"),
        (thumb(tags=["a"]), 400, "tags"),
        (thumb(choice=1), 400, "choice"),
        (thumb(kind="pick", value={"over_choice": 1}), 400, "value.over_choice"),
        (thumb(value={"over_choice": 0}), 400, "value"),
        (thumb(occurred_at="yesterday"), 400, "occurred_at"),
        ({"turn_id": turn(), "kind": "thumbs"}, 400, "value"),
        ({"turn_id": turn(), "value": True}, 400, "kind"),
    ],
)
async def test_what_the_turn_id_alone_does_not_allow_is_named(
    gateway: Gateway, body: dict[str, Any], status: int, param: str
) -> None:
    answer = await give(gateway, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert gateway.events() == []


async def test_an_unsealed_turn_needs_a_key_and_its_conversation(gateway: Gateway) -> None:
    key = gateway.new_key("feedback", tenant="acme")
    missing = await give(gateway, thumb("app-turn-7"), key)
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "conversation_id")
    assert (await give(gateway, thumb("app-turn-7", conversation_id="c", user_id="ann"), key)).status_code == 202
    (rating,) = gateway.events()
    assert (rating["tenant"], rating["turn_id"], rating["user_id"]) == ("acme", "app-turn-7", gateway.edge.user("ann"))


async def test_a_whole_conversation_can_be_rated_with_a_key(gateway: Gateway) -> None:
    body = {"kind": "score", "value": {"name": "csat", "value": 0.8}, "conversation_id": "c"}
    assert (await give(gateway, body, gateway.new_key("feedback"))).status_code == 202
    (rating,) = gateway.events()
    assert ("turn_id" in rating, rating["value"]) == (False, {"name": "csat", "value": 0.8})


@pytest.mark.parametrize("scopes", [("feedback",), ("label",), ("feedback", "ingest")])
async def test_a_tenants_key_rates_no_turn_of_another_whatever_it_may(
    gateway: Gateway, scopes: tuple[str, ...]
) -> None:
    key = gateway.new_key(*scopes, tenant="other")
    for body in (thumb(), thumb(source="user"), thumb(comment="mine"), thumb(conversation_id="c", user_id="ann")):
        answer = await give(gateway, body, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_tenant")
    assert gateway.events() == []


async def test_a_key_without_a_tenant_rates_the_turns_of_all(gateway: Gateway) -> None:
    assert (await give(gateway, thumb(), gateway.new_key("label", tenant=None))).status_code == 202
    (rating,) = gateway.events()
    assert (rating["tenant"], rating["source"]) == ("acme", "expert")


async def test_a_key_needs_the_scope_and_must_be_of_the_turns_tenant(gateway: Gateway) -> None:
    assert (await give(gateway, thumb(), gateway.new_key("chat"))).status_code == 403
    assert (await give(gateway, thumb(), gateway.new_key("feedback", tenant="other"))).status_code == 403
    assert (await give(gateway, thumb(), gateway.new_key("feedback", tenant="acme"))).status_code == 202


async def test_the_credential_decides_the_source(gateway: Gateway) -> None:
    keys = [gateway.new_key(*scopes) for scopes in (("feedback",), ("label",), ("feedback", "ingest"))]
    asked = [(keys[0], None), (keys[1], None), (keys[1], "user"), (keys[2], "system")]
    for key, source in asked:
        assert (await give(gateway, thumb(source=source), key)).status_code == 202
    assert [event["source"] for event in gateway.events()] == ["user", "expert", "user", "system"]
    assert [event["origin"] for event in gateway.events()] == ["feedback", "label", "feedback", "feedback"]
    assert (await give(gateway, thumb(source="expert"), keys[0])).status_code == 403


async def test_the_idempotency_key_names_the_event_but_strangers_can_not_choose_an_id(gateway: Gateway) -> None:
    key, mine, other = gateway.new_key("feedback"), turn("c-1"), turn("c-2")
    for body, credential in ((thumb(mine), key), (thumb(mine), None), (thumb(mine), None), (thumb(other), None)):
        assert (await give(gateway, body, credential, **{"Idempotency-Key": "e-1"})).status_code == 202
    named, first, again, elsewhere = [event["event_id"] for event in gateway.events()]
    assert named == "e-1" != first == again != elsewhere


async def test_without_an_idempotency_key_every_feedback_is_an_event_of_its_own(gateway: Gateway) -> None:
    same = turn()
    for _ in range(2):
        assert (await give(gateway, thumb(same))).status_code == 202
    assert len({event["event_id"] for event in gateway.events()}) == 2


async def test_what_is_typed_is_redacted(gateway: Gateway) -> None:
    body = {"turn_id": turn(), "kind": "comment", "value": "Mail me: ann@example.com"}
    assert (await give(gateway, body)).status_code == 202
    assert gateway.events()[0]["value"] == "Mail me: [email]"


async def test_null_takes_a_rating_back(gateway: Gateway) -> None:
    assert (await give(gateway, thumb(value=None))).status_code == 202
    assert gateway.events()[0]["value"] is None


async def test_feedback_that_can_not_be_logged_is_a_503(gateway: Gateway) -> None:
    gateway.producer.broken = True
    answer = await give(gateway, thumb())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_on_this_machine_no_key_is_needed(open_gateway: Gateway) -> None:
    body = thumb("app-turn", conversation_id="c", source="expert", user_id="ann")
    assert (await give(open_gateway, body)).status_code == 202
    assert (await give(open_gateway, thumb(turn(tenant="default")))).status_code == 202
    assert [(event["tenant"], event["source"]) for event in open_gateway.events()] == [
        ("default", "expert"),
        ("default", "user"),
    ]


async def test_a_comment_beside_the_value_is_a_second_rating(gateway: Gateway) -> None:
    body = thumb(value=False, comment="Too long. Mail me: ann@example.com", tags={"app": "web"})
    for _ in range(2):
        answer = await give(gateway, body, **{"Idempotency-Key": "once"})
        assert answer.status_code == 202
    rating, comment, *again = gateway.events()
    assert (rating["kind"], rating["value"], "comment" in rating) == ("thumbs", False, False)
    assert (comment["kind"], comment["value"]) == ("comment", "Too long. Mail me: [email]")
    assert answer.json()["event_id"] == rating["event_id"] != comment["event_id"]
    assert [event["event_id"] for event in again] == [rating["event_id"], comment["event_id"]]
    for name in ("turn_id", "conversation_id", "tenant", "source", "tags", "bucket"):
        assert comment.get(name) == rating.get(name)


@pytest.mark.parametrize("nothing", [None, ""])
async def test_an_empty_comment_is_none(gateway: Gateway, nothing: str | None) -> None:
    assert (await give(gateway, thumb(comment=nothing))).status_code == 202
    assert [event["kind"] for event in gateway.events()] == ["thumbs"]


@pytest.mark.parametrize("body", [thumb(comment=7), thumb(kind="comment", value="a", comment="b")])
async def test_a_comment_that_is_none_is_refused_with_its_rating(gateway: Gateway, body: dict[str, Any]) -> None:
    answer = await give(gateway, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "comment")
    assert gateway.events() == []


@pytest.mark.parametrize("fields", [{"kind": "comment", "value": WORST}, {"comment": WORST}])
async def test_feedback_that_can_not_be_redacted_is_a_422_and_nothing_is_stored(
    gateway: Gateway, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any) -> bytes:
        raise Unredactable("it was not redacted within 0 s")

    monkeypatch.setattr(RedactionProcesses, "redacted", refused)
    answer = await give(gateway, thumb(**fields))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unredactable")
    assert gateway.events() == []


async def test_others_are_answered_while_the_worst_comment_is_redacted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, redacted = asyncio.Event(), RedactionProcesses.redacted

    async def watched(self: RedactionProcesses, content: bytes) -> bytes:
        begun.set()
        return await redacted(self, content)

    monkeypatch.setattr(RedactionProcesses, "redacted", watched)
    worst = asyncio.create_task(give(gateway, thumb(comment=WORST)))
    await begun.wait()
    assert (await give(gateway, thumb(comment="call +49 30 901820"))).status_code == 202
    assert not worst.done()
    assert (await worst).status_code == 202
    assert [event["value"] for event in gateway.events()][:3] == [True, "call [phone]", True]


async def test_long_feedback_is_taken_one_after_another_with_rests(gateway: Gateway) -> None:
    began_s, sent = CLOCK.monotonic_s(), 4
    comment = "x" * (LONG + 1)
    long = [asyncio.create_task(give(gateway, thumb(turn(f"c-{n}"), comment=comment))) for n in range(sent)]
    assert [answer.status_code for answer in await asyncio.gather(*long)] == [202] * sent
    assert CLOCK.monotonic_s() - began_s >= sent * LONG_REST_S


async def test_a_large_body_is_refused(gateway: Gateway) -> None:
    assert (await give(gateway, thumb(comment="x" * MAX_BYTES))).status_code == 413


def test_a_forged_turn_id_is_told_before_anything_else_is_looked_at() -> None:
    class Unread(dict[str, Any]):
        def __iter__(self) -> Any:
            raise AssertionError("the fields were looked at")

    with pytest.raises(ApiError) as refused:
        rating_event(Unread(thumb("tt1-forged", kind="applause", mood="x")), None, TurnIds(KEY), None, 0)
    assert refused.value.param == "turn_id"
