"""`--engine URL --model NAME`: what it stands for, and what it is refused with."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from deploy.cli.engine_options import _named
from deploy.settings import load_settings, variable
from tests.deploy.cli.typed import typed

URL = "http://127.0.0.1:8000/v1"


def test_an_engine_is_named_as_the_environment_would_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the roles that are started get it too, and it goes before what trimtab.toml says."""
    (tmp_path / "trimtab.toml").write_text("[engine]\nkind = 'vllm'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\n")
    for name, value in _named((URL, "http://b/v1"), "my-model", tmp_path / "key.txt").items():
        monkeypatch.setenv(name, value)
    engine = load_settings(tmp_path / "trimtab.toml").engine
    assert (engine.kind, engine.urls, engine.model) == ("openai", (URL, "http://b/v1"), "my-model")
    assert engine.api_key_file == tmp_path / "key.txt"


def test_without_an_engine_nothing_is_changed() -> None:
    assert _named((), None, None) == {}


@pytest.mark.parametrize(
    ("urls", "model", "file", "said"),
    [
        ((), "m", None, "--model says something of the engine that --engine names"),
        ((), None, Path("key.txt"), "--engine-key-file says something of the engine that --engine names"),
        ((URL,), None, None, "--engine needs --model NAME"),
        ((URL,), "m", Path("key.txt"), "TRIMTAB_ENGINE__API_KEY and in --engine-key-file: give one"),
    ],
)
def test_half_an_engine_and_two_keys_are_refused(
    monkeypatch: pytest.MonkeyPatch, urls: tuple[str, ...], model: str | None, file: Path | None, said: str
) -> None:
    monkeypatch.setenv(variable("engine.api_key"), "sk-1")
    with pytest.raises(click.UsageError, match=said):
        _named(urls, model, file)


@pytest.mark.parametrize("command", ["up", "gateway"])
def test_both_commands_that_serve_take_it(command: str) -> None:
    said = typed(command, "--engine", URL)
    assert (said.code, "--engine needs --model NAME" in said.error) == (2, True)
    assert "--engine http://127.0.0.1:8000/v1 --model my-model" in typed(command, "--help").out
