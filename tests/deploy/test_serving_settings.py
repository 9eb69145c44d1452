"""What serves chats is described in full, or the mistake is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploy.errors import Failed
from deploy.serving_settings import EngineSettings, GatewaySettings
from deploy.settings import load_settings

SERVER: dict[str, Any] = {"kind": "openai", "urls": ["https://api.example.com/v1/"], "model": "m"}


def test_an_address_is_taken_without_its_last_slash() -> None:
    assert EngineSettings(**SERVER).urls == ("https://api.example.com/v1",)


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com/v1",
        "ftp://a/v1",
        "https:///v1",
        "http://u:p@a/v1",
        "http://a:0/v1",
        "http://a:x/v1",
        "http://a/?q",
    ],
)
def test_what_is_no_address_of_a_server_is_told_how_one_looks(url: str) -> None:
    with pytest.raises(ValidationError, match=r"https://api\.example\.com/v1"):
        EngineSettings(**SERVER | {"urls": [url]})


@pytest.mark.parametrize("missing", ["urls", "model"])
def test_a_server_needs_an_address_and_a_model(missing: str) -> None:
    with pytest.raises(ValidationError, match="needs urls and model"):
        EngineSettings(**{name: value for name, value in SERVER.items() if name != missing})


@pytest.mark.parametrize("origin", ["https://a.example/", "https://a.example/x", "*"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(cors_origins=[origin])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[engine]\nkind = 'openai'", ["engine", "needs urls and model"]),
        ("[engine]\naliases = {big = 'm'}", ["aliases", "'local' asks none"]),
        ("[engine]\nmodel = 'm'\nurls = ['http://a/v1', 'http://a/v1/']", ["engine.urls", "each server counts once"]),
        ("[engine]\nmodel = 'm'\nurls = ['http://a/v1/chat/completions']", ["engine.urls", "as far as /v1"]),
    ],
)
def test_nonsense_is_refused_with_a_sentence(tmp_path: Path, text: str, said: list[str]) -> None:
    file = tmp_path / "trimtab.toml"
    file.write_text(text)
    with pytest.raises(Failed) as failed:
        load_settings(file)
    assert [part for part in said if part not in str(failed.value)] == []


def test_all_engines_but_one_take_adapters() -> None:
    assert not EngineSettings(**SERVER).takes_adapters
    assert EngineSettings().takes_adapters
    assert EngineSettings(**SERVER | {"kind": "vllm"}).takes_adapters
