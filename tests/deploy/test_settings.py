"""trimtab.toml and the environment: every mistake names the setting, where it stands and what it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import Failed
from deploy.settings import Settings, keys, load_settings, variable


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to run in; none of the settings is set."""
    for key in keys():
        monkeypatch.delenv(variable(key), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(text: str) -> str:
    """The sentence that this trimtab.toml is refused with."""
    Path("trimtab.toml").write_text(text)
    with pytest.raises(Failed) as failed:
        load_settings(None)
    return str(failed.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gate]\nmax_gate_kl = 0", ["gate.max_gate_kl", "greater than 0"]),
        ('[approve]\nbefore = ["lunch"]', ["approve.before", "'train' or 'rollout'"]),
        ("[rollout]\nshares = [0.5, 0.2, 1.0]", ["rollout.shares", "[0.05, 0.5, 1.0]"]),
        ("[rollout]\nshares = []", ["rollout.shares", "end at 1"]),
        ('[broker]\nurl = "kafka-1:9092"', ["broker.url", "kafka://"]),
        *(
            (
                f'[broker]\nurl = "kafka://a:1,{server}"',
                ["broker.url", f"{server!r} is no host with a port", "host:port"],
            )
            for server in ("b", "b:port", "b:0", "b:65536", "b:²", ":9092", "::1:9092", "")
        ),
        *((f"[judge]\ngrace_s = {number}", ["judge.grace_s", "finite number"]) for number in ("inf", "nan")),
        ("[gate]\nmax_gate_k = 3", ["unknown key gate.max_gate_k", "did you mean gate.max_gate_kl?"]),
        ("[gateway]\ncors_origins = ['*']", ["gateway.cors_origins", "every page on the web"]),
        ("[gateway]\ncors_origins = ['https://shop.example/']", ["no slash at the end", "https://shop.example/"]),
        ("[gateway]\ncors_origins = ['https://shop.example/chat']", ["gateway.cors_origins", "no path"]),
        ("[gateway]\ncors_origins = ['https://Shop.example']", ["gateway.cors_origins", "small letters"]),
        (
            "[gateway]\ncors_origins = ['https://shop.example:443']",
            ["gateway.cors_origins", "unless it is the usual one"],
        ),
        ("[gateway]\ncors_origins = ['shop.example']", ["gateway.cors_origins", "scheme"]),
        ("[gateway]\ncors_origins = ['null']", ["gateway.cors_origins", "'null'"]),
        ("[gateway]\ntrusted_proxies = ['10.0.0.1/8']", ["gateway.trusted_proxies", "10.0.0.0/8"]),
        ("[gateway]\ntrusted_proxies = ['proxy']", ["gateway.trusted_proxies", "10.0.0.0/8"]),
        (
            "[engine]\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'",
            ["kind = 'local' asks no server", "'openai' or 'vllm'"],
        ),
        (
            "[engine]\nkind = 'openai'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\naliases = {m = 'x'}",
            ["alias 'm'", "leave it out"],
        ),
        (
            "[engine]\nkind = 'openai'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\naliases = {trimtab = 'x'}",
            ["'trimtab' is gateway.model_alias"],
        ),
        (
            "[engine]\nkind = 'openai'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\nadapters_seen_as = '/x'",
            ["adapters_seen_as is for kind = 'vllm'"],
        ),
        (
            "[engine]\nkind = 'openai'\nmodel = 'm'\nurls = ['gpu-1:8000']",
            ["engine.urls", "https://api.example.com/v1"],
        ),
        (
            "[engine]\nkind = 'vllm'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\nmax_loras = 1",
            ["engine.max_loras", "greater than or equal to 2"],
        ),
        (
            "[engine]\napi_key = 'sk-1'",
            ["engine.api_key is a secret", "TRIMTAB_ENGINE__API_KEY", "engine.api_key_file"],
        ),
        ("[gaet]\nmax_gate_kl = 3", ["unknown key gaet", "did you mean gate?"]),
        ("gate = 3", ["gate", "[gate]"]),
        ("[gate", ["not valid TOML"]),
    ],
)
def test_a_mistake_in_the_file_names_the_file_the_setting_and_what_it_may_be(text: str, said: list[str]) -> None:
    sentence = configured(text)
    assert sentence.startswith("trimtab.toml")
    assert [part for part in said if part not in sentence] == []


PAIRS = {key: key.replace(".min_", ".max_") for key in keys() if key.replace(".min_", ".max_") in {*keys()} - {key}}
"""Settings of a least, each with the one of the most."""


def test_pairs_of_a_least_and_a_most_are_known_by_their_names() -> None:
    assert PAIRS == {"rollout.min_stage_s": "rollout.max_stage_s", "shadow.min_s": "shadow.max_s"}


@pytest.mark.parametrize(("least", "most"), PAIRS.items())
def test_a_least_above_its_most_is_refused_and_one_that_is_as_much_is_taken(least: str, most: str) -> None:
    section, name = least.split(".")
    other = most.split(".")[1]
    sentence = configured(f"[{section}]\n{name} = 7200\n{other} = 3600")
    assert f"{least} (7200) is more than {most} (3600): lower the one, or raise the other" in sentence
    Path("trimtab.toml").write_text(f"[{section}]\n{name} = 3600\n{other} = 3600")
    assert getattr(getattr(load_settings(None), section), name) == 3600


def test_a_most_below_the_default_of_its_least_is_refused_too() -> None:
    sentence = configured("[rollout]\nmax_stage_s = 86400\n[shadow]\nmax_s = 3600")
    assert (
        f"rollout.min_stage_s ({Settings().rollout.min_stage_s}) is more than rollout.max_stage_s (86400)" in sentence
    )
    assert "shadow.min_s (86400) is more than shadow.max_s (3600)" in sentence


@pytest.mark.parametrize("key", ["compare.expires_s", "shadow.max_s", "rollout.max_stage_s", "approve.expires_s"])
def test_what_lasts_longer_than_a_century_is_refused(key: str) -> None:
    section, name = key.split(".")
    assert f"{key}: Value error, at most 3155760000 s, a hundred years" in configured(
        f"[{section}]\n{name} = 3155760001"
    )
    Path("trimtab.toml").write_text(f"[{section}]\n{name} = 3155760000")
    assert getattr(getattr(load_settings(None), section), name) == 3_155_760_000


def test_all_mistakes_are_told_at_once() -> None:
    sentence = configured("[gate]\nmax_gate_kl = 0\nmax_repetition = 2\n[train]\nnever = 1")
    assert [key for key in ("gate.max_gate_kl", "gate.max_repetition", "train.never") if key not in sentence] == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRIMTAB_GATE__MAX_FACTS_LOST", "many", "valid integer"),
        ("TRIMTAB_ROLLOUT__SHARES", "half", "list"),
        ("TRIMTAB_ROLLOUT__SHARES", "[2]", "end at 1"),
        ("TRIMTAB_GATE__MAX_FACT_LOST", "3", "did you mean TRIMTAB_GATE__MAX_FACTS_LOST?"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable_whatever_the_file_says(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    sentence = configured("[gate]\nmax_repetition = 0.9")
    assert sentence.startswith("the environment: ")
    assert "trimtab.toml" not in sentence
    assert (name in sentence, said in sentence) == (True, True), sentence


def test_the_environment_wins_over_the_file_and_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("trimtab.toml").write_text("[gate]\nmax_facts_lost = 7\nmax_repetition = 0.9")
    monkeypatch.setenv("TRIMTAB_GATE__MAX_FACTS_LOST", "9")
    monkeypatch.setenv("TRIMTAB_GATE__MAX_REPETITION", "")
    gate = load_settings(None).gate
    assert (gate.max_facts_lost, gate.max_repetition) == (9, 0.9)


@pytest.mark.parametrize("key", ["judge.api_key", "control.url", "broker.password"])
def test_a_secret_in_the_file_is_refused_with_where_it_goes_and_not_repeated(key: str) -> None:
    section, name = key.split(".")
    sentence = configured(f'[{section}]\n{name} = "hunter2"')
    assert variable(key) in sentence
    assert "hunter2" not in sentence


def test_a_file_that_was_named_must_be_there(here: Path) -> None:
    with pytest.raises(Failed, match=r"no configuration file .*other\.toml"):
        load_settings(here / "other.toml")
    assert load_settings(None).broker.url == "sqlite://"


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example", "http://localhost:3000", "http://[::1]:3000", "https://a-b.example:8443", "app://x"],
)
def test_origins_as_browsers_say_them_are_taken(origin: str, here: Path) -> None:
    (here / "trimtab.toml").write_text(f"[gateway]\ncors_origins = ['{origin}']")
    assert load_settings(None).gateway.cors_origins == (origin,)
