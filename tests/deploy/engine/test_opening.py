"""The settings say which engine there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.engine.adapters import LocalEngines
from deploy.engine.opening import open_engine
from deploy.engine.port import Engine
from deploy.engine.remote.engine import RemoteEngine
from deploy.engine.vllm.engine import VllmEngine
from deploy.errors import Failed
from deploy.serving_settings import EngineSettings, GatewaySettings
from deploy.settings import Settings
from deploy.state import State
from tests.deploy.candidates import base_of
from tests.deploy.engine.remote.asking import documents, request
from tests.deploy.engine.replies import Desk
from tests.deploy.engine.vllm.fake_server import BASE, running
from tests.deploy.engine.vllm.speaking import Speaking, with_tokenizer
from tests.fakes import CLOCK, until
from tests.openai_server import openai_server


def opened(tmp_path: Path, **engine: Any) -> Engine:
    settings = Settings(engine=EngineSettings(**engine), gateway=GatewaySettings(model_alias="bot"))
    return open_engine(settings, State(tmp_path), Desk(), CLOCK)


def test_without_a_word_it_is_the_local_one(tmp_path: Path) -> None:
    assert isinstance(opened(tmp_path), LocalEngines)


async def test_a_server_is_asked_for_by_the_gateways_alias_its_own_name_and_the_aliases_of_the_settings(
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    async with openai_server("sk-file") as server:
        settings = {"urls": [server.url], "model": "big", "aliases": {"gpt": "huge"}, "api_key_file": tmp_path / "key"}
        engine = opened(tmp_path, kind="openai", **settings)
        assert isinstance(engine, RemoteEngine)
        assert list(engine.names) == ["bot", "big", "gpt"]
        await engine.start()
        for name in engine.names:
            assert (await documents(engine, request(name)))[0]["model"] == name
        await engine.stop()
        assert [body["model"] for body in server.bodies] == ["big", "big", "huge"]


def test_a_key_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="missing"):
        opened(tmp_path, kind="openai", urls=["http://127.0.0.1:9/v1"], model="m", api_key_file=tmp_path / "missing")


async def test_vllm_is_asked_in_token_ids_or_always_by_chats_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.engine.opening.served_base", lambda *_: with_tokenizer(base_of(tmp_path)))
    paths = []
    for chat in ({}, {"chat": "always"}):
        async with running(Speaking()) as server:
            engine = opened(tmp_path, kind="vllm", urls=[f"{server.url}/v1"], model=BASE, **chat)
            assert isinstance(engine, VllmEngine)
            await engine.start()
            await until(lambda engine=engine: engine.ready() is None)  # type: ignore[misc]
            await documents(engine, request("bot"))
            paths += [path for path, _ in server.asked if path.endswith("completions")]
            await engine.stop()
    assert paths == ["/v1/completions", "/v1/chat/completions"]
