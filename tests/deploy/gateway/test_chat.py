"""Chats with the gateway as clients have them: OpenAI's own client, a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client import REGISTRY

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.gateway.turn_ids import TurnIds
from tests.deploy.gateways import KEY, Gateway, canary, incumbent, running
from tests.fakes import BASE, until

pytestmark = pytest.mark.slow
HELLO: Any = [{"role": "user", "content": "Hello, I am ann@example.com"}]
ALIAS = "trimtab"


@pytest.fixture
async def gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder) as gateway:
        yield gateway


async def whole(gateway: Gateway) -> str:
    reply = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO)
    return reply.choices[0].message.content or ""


async def streamed(gateway: Gateway) -> str:
    stream = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_an_unmodified_openai_client_gets_a_reply(gateway: Gateway) -> None:
    reply = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO)
    assert reply.choices[0].message.content == "base says hello."
    assert (reply.choices[0].finish_reason, reply.system_fingerprint, reply.model) == ("stop", "base", ALIAS)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (7, 4, 11)


async def test_a_synchronous_openai_client_streams(gateway: Gateway) -> None:
    def stream() -> list[Any]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x") as client:
            return list(client.chat.completions.create(model=ALIAS, messages=HELLO, stream=True))

    chunks = await asyncio.to_thread(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "base says hello."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert {(chunk.id, chunk.system_fingerprint, chunk.object) for chunk in chunks} == {
        (chunks[0].id, "base", "chat.completion.chunk")
    }


async def test_usage_comes_last_in_a_stream_when_it_is_asked_for(gateway: Gateway) -> None:
    stream = await gateway.openai().chat.completions.create(
        model=ALIAS, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 11
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_name_turn_conversation_and_adapter(gateway: Gateway, stream: bool) -> None:
    body = {"model": ALIAS, "messages": HELLO, "stream": stream, "metadata": {"conversation_id": "Käse 1\u2028"}}
    async with gateway.http() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-trimtab-conversation"] == "K%C3%A4se%201%E2%80%A8"
    assert answer.headers["x-trimtab-adapter"] == "base"
    (event,) = gateway.events()
    assert answer.headers["x-trimtab-turn"] == event["turn_id"]
    assert event["conversation_id"] == "Käse 1\u2028"
    if stream:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.endswith("data: [DONE]\n\n")


async def test_the_turn_is_logged_redacted_with_all_that_the_contract_says(gateway: Gateway) -> None:
    metadata = {"conversation_id": "c-1", "locale": "de-DE", "app": "web"}
    reply = await gateway.openai().chat.completions.create(
        model=ALIAS, messages=HELLO, metadata=metadata, safety_identifier="ann"
    )
    (event,) = gateway.events()
    assert event.pop("occurred_at_us") > 1_700_000_000_000_000
    assert event.pop("usage").keys() == {"prompt_tokens", "completion_tokens", "total_tokens", "latency_ms"}
    assert 0 <= event.pop("bucket", 0) < 100
    assert event == {
        "event": "turn",
        "tenant": "default",
        "event_id": reply.id,
        "turn_id": reply.id,
        "conversation_id": "c-1",
        "messages": [{"role": "user", "content": "Hello, I am [email]"}],
        "reply": "base says hello.",
        "policy": BASE.name,
        "base": BASE.name,
        "user_id": gateway.edge.user("ann"),
        "locale": "de-DE",
        "tags": {"app": "web"},
        "finish_reason": "stop",
        "origin": "gateway",
    }


async def test_a_client_that_names_nothing_stays_in_one_conversation(gateway: Gateway) -> None:
    client = gateway.openai()
    messages = list(HELLO)
    for question in ("And then?", "Why?"):
        reply = await client.chat.completions.create(model=ALIAS, messages=messages)
        messages += [{"role": "assistant", "content": reply.choices[0].message.content}]
        messages += [{"role": "user", "content": question}]
    await client.chat.completions.create(model=ALIAS, messages=[{"role": "user", "content": "Other"}])
    one, two, other = [event["conversation_id"] for event in gateway.events()]
    assert one == two != other


async def test_sampling_options_reach_the_engine_within_the_services_limit(gateway: Gateway) -> None:
    await gateway.openai().chat.completions.create(
        model=ALIAS, messages=HELLO, max_tokens=9_999, temperature=0.3, top_p=0.0, seed=5, stop="\n"
    )
    reply = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO, max_completion_tokens=2)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("base says", "length")
    first, second = gateway.engine.asked
    assert (first["max_tokens"], first["temperature"], first["seed"], first["stop"]) == (256, 0.3, 5, ("\n",))
    assert 0 < first["top_p"] < 0.001
    assert (second["max_tokens"], second["temperature"], second["top_p"]) == (2, 1.0, 1.0)


async def test_the_last_chunk_waits_until_the_turn_is_durable(gateway: Gateway) -> None:
    gateway.producer.go.clear()
    stream = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO, stream=True)
    chunks = aiter(stream)
    said = ""
    while said != "base says hello.":
        said += (await anext(chunks)).choices[0].delta.content or ""
    last = asyncio.ensure_future(anext(chunks))
    assert not (await asyncio.wait([last], timeout=0.1))[0]
    gateway.producer.go.set()
    assert (await last).choices[0].finish_reason == "stop"
    assert len(gateway.events()) == 1


async def test_a_full_log_drops_and_counts_or_refuses(gateway: Gateway, folder: Path) -> None:
    gateway.producer.broken = True
    reply = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO)
    assert reply.choices[0].message.content == "base says hello."
    assert gateway.producer.records == []
    async with running(gateway.control, folder, on_full="refuse") as strict:
        strict.producer.broken = True
        with pytest.raises(openai.InternalServerError) as raised:
            await strict.openai().chat.completions.create(model=ALIAS, messages=HELLO)
        assert (raised.value.status_code, raised.value.code) == (503, "not_logged")
        assert raised.value.response.headers["retry-after"] == "5"
        with pytest.raises(openai.APIError, match="event log"):
            await streamed(strict)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_leaves_an_aborted_turn(gateway: Gateway, stream: bool) -> None:
    gateway.engine.endless = True
    body = {"model": ALIAS, "messages": HELLO, "stream": stream}
    async with gateway.http() as client:
        if stream:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    if "hello" in line:
                        break
        else:
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            await until(lambda: gateway.engine.under_way == 1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    (event,) = await gateway.logged()
    assert event["outcome"] == "aborted"
    assert "finish_reason" not in event
    await until(lambda: gateway.engine.under_way == 0)


@pytest.mark.parametrize(("after", "stream"), [(0, False), (0, True), (2, False), (2, True)])
async def test_an_engine_that_breaks_is_an_error_and_a_logged_turn(gateway: Gateway, after: int, stream: bool) -> None:
    gateway.engine.breaks_after = after
    with pytest.raises(openai.APIError, match="engine failed") as raised:
        await (streamed if stream else whole)(gateway)
    assert "memory" not in str(raised.value)
    (event,) = await gateway.logged()
    assert (event["outcome"], event["reply"]) == ("error", "base says" if after else "")


async def test_too_many_waiting_are_told_to_come_back(control: Control, folder: Path) -> None:
    async with running(control, folder, queue=1) as gateway:
        gateway.engine.go.clear()
        client = gateway.openai()
        asking = [asyncio.create_task(client.chat.completions.create(model=ALIAS, messages=HELLO))]
        await until(lambda: gateway.engine.under_way == 1)
        asking += [asyncio.create_task(client.chat.completions.create(model=ALIAS, messages=HELLO)) for _ in range(2)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        error = done.pop().exception()
        assert isinstance(error, openai.RateLimitError)
        assert error.response.headers["retry-after"] == "5"
        gateway.engine.go.set()
        await asyncio.gather(*asking, return_exceptions=True)
        assert len(gateway.events()) == 2


async def test_without_a_base_the_answer_is_503_and_what_to_do(control: Control, folder: Path) -> None:
    async with running(control, folder, base=None) as gateway:
        with pytest.raises(openai.InternalServerError, match="trimtab train") as raised:
            await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO)
        assert raised.value.status_code == 503
        assert raised.value.response.headers["retry-after"]


async def test_the_rollout_decides_the_adapter_and_the_turn_says_so(
    gateway: Gateway, judged_rules: Operations, folder: Path
) -> None:
    old = incumbent(judged_rules, folder, 1)
    await until(lambda: old in gateway.engines.loaded)
    new = canary(judged_rules, folder, 2)
    await gateway.caught_up()
    client = gateway.openai()
    for number in range(40):
        metadata = {"conversation_id": f"c-{number}"}
        reply = await client.chat.completions.create(model=ALIAS, messages=HELLO, metadata=metadata)
        sealed = TurnIds(KEY).open(reply.id)
        assert sealed is not None
        assert sealed.adapter == (reply.system_fingerprint or "")[:16]
        assert reply.system_fingerprint == (new if sealed.arm == "candidate" else old)
    events = gateway.events()
    assert {(event["policy"], event["rollout"]["arm"]) for event in events} == {(old, "incumbent"), (new, "candidate")}
    assert {event["rollout"]["share"] for event in events} == {0.5}
    assert len({event["rollout"]["id"] for event in events}) == 1


async def test_a_conversation_keeps_its_adapter_and_a_halt_takes_it_within_a_second(
    gateway: Gateway, judged_rules: Operations, folder: Path
) -> None:
    served = incumbent(judged_rules, folder)
    await gateway.caught_up()
    metadata = {"conversation_id": "c"}
    for _ in range(3):
        reply = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO, metadata=metadata)
        assert reply.system_fingerprint == served
    judged_rules.halt(actor="ada", reason="it swears")
    await gateway.caught_up()
    reply = await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO, metadata=metadata)
    assert reply.system_fingerprint == "base"
    assert "rollout" not in gateway.events()[-1]


async def test_an_adapter_that_can_not_be_loaded_leaves_the_incumbent_serving_and_is_its_arms_error(
    gateway: Gateway, judged_rules: Operations, folder: Path
) -> None:
    old = incumbent(judged_rules, folder, 1)
    await until(lambda: old in gateway.engines.loaded)
    gateway.engine.broken = {canary(judged_rules, folder, 2)}
    await gateway.caught_up()
    client = gateway.openai()
    for number in range(40):
        metadata = {"conversation_id": f"c-{number}"}
        reply = await client.chat.completions.create(model=ALIAS, messages=HELLO, metadata=metadata)
        assert reply.system_fingerprint == old
    events = gateway.events()
    assert {event["policy"] for event in events} == {old}
    failed = [event["rollout"] for event in events if event["rollout"].get("instead")]
    assert 1 <= len(failed) < 40
    assert {rollout["arm"] for rollout in failed} == {"candidate"}


async def test_an_operator_may_name_an_adapter_and_others_may_not(
    control: Control, judged_rules: Operations, folder: Path
) -> None:
    digest = canary(judged_rules, folder)
    async with running(control, folder, require_keys=True) as gateway:
        operator, chatter = (
            gateway.openai(gateway.new_key(*scopes, tenant=tenant))
            for scopes, tenant in ((("chat", "operate", "read"), None), (("chat",), "acme"))
        )
        for name in (digest, f"tt-{digest[:16]}"):
            reply = await operator.chat.completions.create(model=name, messages=HELLO)
            assert (reply.system_fingerprint, reply.model) == (digest, name)
            with pytest.raises(openai.NotFoundError) as raised:
                await chatter.chat.completions.create(model=name, messages=HELLO)
            assert raised.value.param == "model"
        assert all("rollout" not in event for event in gateway.events())
        with pytest.raises(openai.NotFoundError):
            await operator.chat.completions.create(model="tt-" + "0" * 16, messages=HELLO)
        assert [model.id async for model in chatter.models.list()] == [ALIAS]
        assert [model.id async for model in operator.models.list()] == [ALIAS, f"tt-{digest[:16]}"]
        tenants = gateway.openai(gateway.new_key("chat", "read"))
        assert [model.id async for model in tenants.models.list()] == [ALIAS], "candidates are the deployment's"
        judged_rules.halt(actor="ada", reason="it swears")
        with pytest.raises(openai.ConflictError, match="halted"):
            await operator.chat.completions.create(model=digest, messages=HELLO)


async def test_a_context_too_big_for_the_log_loses_its_oldest_messages_there(gateway: Gateway) -> None:
    messages = [{"role": "user", "content": f"{number} " + "word " * 40_000} for number in range(8)]
    async with gateway.http() as client:
        answer = await client.post("/v1/chat/completions", json={"model": ALIAS, "messages": messages})
    assert answer.status_code == 200
    (event,) = gateway.events()
    assert len(gateway.producer.records[0].value) <= 1_000_000
    assert event["truncated"] + len(event["messages"]) == 8
    assert event["messages"][-1]["content"].startswith("7 ")
    assert len(gateway.engine.asked[0]["messages"]) == 8


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_the_metrics_count_requests_seconds_and_lost_turns(gateway: Gateway) -> None:
    ok = {"code": "200", "arm": "incumbent"}
    before = count("trimtab_chat_requests_total", **ok), count("trimtab_chat_seconds_count", arm="incumbent")
    first, lost = count("trimtab_chat_first_token_seconds_count"), count("trimtab_turns_lost_total")
    refused = count("trimtab_chat_requests_total", code="404", arm="none")
    await whole(gateway)
    gateway.producer.broken = True
    await streamed(gateway)
    with pytest.raises(openai.NotFoundError):
        await gateway.openai().chat.completions.create(model="gpt", messages=HELLO)
    assert count("trimtab_chat_requests_total", **ok) == before[0] + 2
    assert count("trimtab_chat_seconds_count", arm="incumbent") == before[1] + 2
    assert count("trimtab_chat_first_token_seconds_count") == first + 2
    assert count("trimtab_turns_lost_total") == lost + 1
    assert count("trimtab_chat_requests_total", code="404", arm="none") == refused + 1


async def test_no_log_line_holds_what_people_wrote_or_who_they_are(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.engine.breaks_after = 1
    ask: Any = {"model": ALIAS, "messages": [{"role": "user", "content": "my secret"}], "user": "ann-secret"}
    with pytest.raises(openai.InternalServerError):
        await gateway.openai().chat.completions.create(**ask)
    gateway.engine.breaks_after = None
    gateway.producer.broken = True
    await gateway.openai().chat.completions.create(**ask)
    logged = "".join(capsys.readouterr())
    assert "engine_failed" in logged
    assert "secret" not in logged


def lost() -> float:
    return REGISTRY.get_sample_value("trimtab_turns_lost_total") or 0.0


async def test_a_turn_that_was_refused_is_not_counted_as_served_and_lost(gateway: Gateway, folder: Path) -> None:
    before = lost()
    gateway.producer.broken = True
    await gateway.openai().chat.completions.create(model=ALIAS, messages=HELLO)
    assert lost() == before + 1
    async with running(gateway.control, folder, on_full="refuse") as strict:
        strict.producer.broken = True
        for stream in (False, True):
            with pytest.raises(openai.APIError, match="event log"):
                await strict.openai().chat.completions.create(model=ALIAS, messages=HELLO, stream=stream)
    assert lost() == before + 1
