"""[engine] of trimtab.toml: what makes no sense together is refused, and what to write instead is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import Failed
from deploy.settings import load_settings
from models.settings import EngineSettings

URLS = ("http://gpu-1:8000/v1",)


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


def test_an_address_counts_without_the_slash_at_its_end_and_all_engines_but_one_take_adapters() -> None:
    engine = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1/",), model="m")
    assert (engine.urls, engine.takes_adapters) == (URLS, False)
    assert EngineSettings().takes_adapters
    assert EngineSettings(kind="vllm", urls=URLS, model="m").takes_adapters
