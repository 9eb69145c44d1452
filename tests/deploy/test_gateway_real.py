"""The gateway with nothing fake: a transformer, a LoRA adapter, the embedded log, OpenAI's client."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.engine.adapters import LocalEngines
from deploy.gateway.app import gateway_app
from deploy.gateway.control_link import ControlLink
from deploy.gateway.spool import Spool
from deploy.parts import link_to
from deploy.serving_settings import ShadowSettings
from deploy.settings import Settings
from feedback.intake.edge import Edge
from models.bases import Base
from streams.sqlite.log import SqliteLog
from tests.deploy.gateways import KEY, Gateway, full, served
from tests.deploy.pairs import stored
from tests.fakes import CLOCK, until

pytestmark = pytest.mark.slow
HELLO: Any = [{"role": "user", "content": "Where is my order?"}]


async def ask(gateway: Gateway, stream: bool = False, **more: Any) -> tuple[str, str | None]:
    options: Any = {"model": "trimtab", "messages": HELLO, "max_tokens": 12, "temperature": 0, "stream": stream} | more
    answer: Any = await gateway.openai().chat.completions.create(**options)
    if not stream:
        return answer.choices[0].message.content, answer.system_fingerprint
    chunks = [chunk async for chunk in answer]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), chunks[0].system_fingerprint


@asynccontextmanager
async def real_gateway(
    control: Control, folder: Path, tmp_path: Path, log: SqliteLog, base: Base, settings: Settings
) -> AsyncIterator[Gateway]:
    """One whose turns are on the log once this is left."""
    spool, edge = Spool(tmp_path / "spool.db", 1_000_000, CLOCK), Edge(KEY)
    sending = asyncio.create_task(spool.run(link_to(log, CLOCK).producer))
    link = ControlLink(control, CLOCK)
    engines = LocalEngines(lambda: base, folder, link, queue=4, clock=CLOCK)
    app = gateway_app(settings, link, edge, spool, engines, KEY, CLOCK, require_keys=False)
    await link.start()
    await engines.start()
    await until(lambda: engines.ready() is None)
    async with served(app) as url:
        gateway = Gateway(url, control, None, engines, None, link=link)  # type: ignore[arg-type]
        yield gateway
        for client in gateway.clients:
            await client.close()
    await engines.stop()
    await link.stop()
    assert await spool.drained(60)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await spool.close()


def new_base(tmp_path: Path) -> Base:
    import torch

    from tests.deploy.real_models import make_base

    torch.set_num_threads(1)
    return make_base(tmp_path)


def turns(log: SqliteLog) -> list[dict[str, Any]]:
    return [json.loads(stored.value) for stored in log.read("turns.served", 0, 0, 10)]


async def test_base_and_adapter_reply_as_the_rollout_says_and_their_turns_are_on_the_log(
    control: Control, judged_rules: Operations, folder: Path, tmp_path: Path
) -> None:
    from tests.deploy.real_models import make_adapter

    base = new_base(tmp_path)
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    async with real_gateway(control, folder, tmp_path, log, base, Settings()) as gateway:
        bare = await ask(gateway)
        assert bare[1] == "base"
        digest = make_adapter(base, folder)
        full(judged_rules, digest)
        await gateway.caught_up()
        adapted, streamed = await ask(gateway), await ask(gateway, stream=True)
        assert adapted[1] == digest
        assert adapted == streamed != bare
        judged_rules.halt(actor="ada", reason="it swears")
        await gateway.caught_up()
        assert await ask(gateway) == bare
    assert [turn["policy"] for turn in turns(log)] == ["random", digest, digest, "random"]
    assert [turn["reply"] for turn in turns(log)] == [bare[0], adapted[0], adapted[0], bare[0]]
    assert all(turn["usage"]["completion_tokens"] == 12 or turn["finish_reason"] == "stop" for turn in turns(log))
    log.close()


async def test_in_the_shadow_an_adapter_says_what_it_says_once_it_serves_and_only_the_base_is_on_the_log(
    control: Control, rules: Operations, folder: Path, tmp_path: Path
) -> None:
    from tests.deploy.real_models import make_adapter

    base = new_base(tmp_path)
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    everybody = Settings(shadow=ShadowSettings(share=1.0))
    async with real_gateway(control, folder, tmp_path, log, base, everybody) as gateway:
        lively: dict[str, Any] = {"temperature": 0.2, "seed": 5}
        bare, _ = await ask(gateway, **lively)
        ends = lively | {"stop": [bare[len(bare) // 2 :]]}  # a reply that was cut at its limit is not copied
        digest = make_adapter(base, folder)
        rules.register(digest)
        assert rules.attend_shadow() is not None
        await gateway.caught_up()
        told, by = await ask(gateway, **ends)
        assert (told, by) == (bare[: len(bare) // 2], "base")
        await until(lambda: len(control.comparisons.of(digest, None)) == 1, "a pair")
        full(rules, digest)
        await gateway.caught_up()
        adapted, _ = await ask(gateway, **ends)
    (pair,) = stored(control, digest)
    assert (pair.incumbent_reply, pair.candidate_reply, pair.prompt) == (told, adapted, HELLO)
    assert told != adapted
    assert [(turn["policy"], turn["reply"]) for turn in turns(log)] == [
        ("random", bare),
        ("random", told),
        (digest, adapted),
    ]
    log.close()


async def test_an_adapter_that_was_changed_on_disk_is_not_served(
    control: Control, judged_rules: Operations, folder: Path, tmp_path: Path
) -> None:
    from tests.deploy.real_models import make_adapter

    base = new_base(tmp_path)
    digest = make_adapter(base, folder)
    full(judged_rules, digest)
    shutil.rmtree(folder / digest / "reward_model")
    weights = folder / digest / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    engines = LocalEngines(lambda: base, folder, control, queue=4, clock=CLOCK)
    await engines.start()
    await until(lambda: engines.ready() is None)
    with engines.admit() as place:
        assert not await place.hold(digest)
    assert engines.loaded == frozenset()
    await engines.stop()


async def test_a_candidate_of_another_base_is_refused_by_name_and_the_engine_goes_on(
    control: Control, judged_rules: Operations, folder: Path, tmp_path: Path
) -> None:
    import torch

    from tests.deploy.real_models import make_adapter, make_base

    torch.set_num_threads(1)
    base, other = make_base(tmp_path / "one"), make_base(tmp_path / "other", 128)
    ours, theirs = make_adapter(base, folder), make_adapter(other, folder, seed=2)
    full(judged_rules, ours)
    engines = LocalEngines(lambda: base, folder, control, queue=4, clock=CLOCK)
    await engines.start()
    await until(lambda: engines.ready() is None)
    with engines.admit() as place:
        assert not await place.hold(theirs)
        assert await place.hold(ours)
    assert f"adapter {theirs[:16]} was trained on" in (engines.why_not(theirs) or "")
    assert engines.loaded == {ours}
    await engines.stop()
