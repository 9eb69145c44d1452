"""`trimtab engine check`, as it is typed, against real servers; and `doctor` beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.common import DONE, FAILED
from deploy.parts import note_engine
from deploy.rules.schedule import NOT_TRAINED
from deploy.serving_settings import EngineSettings
from deploy.settings import Settings
from deploy.state import State, open_state
from tests.deploy.cli.test_common import document, typed
from tests.own_engine import MODEL, OwnEngine, own_engine

KEY = "sk-ours"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return open_state(tmp_path / "state").root


@pytest.fixture
def server() -> Iterator[OwnEngine]:
    with own_engine(KEY) as server:
        yield server


def configure(*urls: str, kind: str = "openai", model: str = MODEL, key: str | None = KEY) -> None:
    text = f"[engine]\nkind = {kind!r}\nurls = {json.dumps(urls)}\nmodel = {model!r}\n"
    if key is not None:
        Path("key.txt").write_text(f"{key}\n")
        Path("key.txt").chmod(0o600)
        text += "api_key_file = 'key.txt'\n"
    Path("trimtab.toml").write_text(text)


def checked(state: Path) -> dict[str, Any]:
    """What is said of the only address of an engine that is well."""
    (one,) = document(state, "engine", "check")["addresses"]
    assert isinstance(one, dict)
    return one


def wrong(state: Path) -> str:
    """The sentence on what is wrong, where something is."""
    code, out, _ = typed(state, "engine", "check", "--json")
    (one,) = json.loads(out)["addresses"]
    (sentence,) = one["wrong"]
    assert code == FAILED
    assert " ".join(sentence.split()) in typed(state, "engine", "check")[1]
    return str(sentence)


def test_of_an_engine_that_is_well_everything_is_found_out(state: Path, server: OwnEngine) -> None:
    configure(server.url)
    one = checked(state)
    assert one.pop("first_word_s") >= 0
    assert one == {
        "url": server.url,
        "reachable": True,
        "key_accepted": True,
        "model_known": True,
        "answers": True,
        "streams": True,
        "usage_in_streams": True,
        "models": [MODEL],
        "loads_adapters": None,
        "adapters": [],
        "wrong": [],
    }
    code, out, _ = typed(state, "engine", "check")
    assert (code, "streams, with [DONE] yes" in out, NOT_TRAINED in out) == (DONE, True, True)


def test_each_address_is_tried_and_one_that_is_wrong_is_enough_to_fail(state: Path, server: OwnEngine) -> None:
    configure(server.url, "http://127.0.0.1:9/v1")
    code, out, _ = typed(state, "engine", "check", "--json")
    well, away = json.loads(out)["addresses"]
    assert (code, well["wrong"], away["reachable"], away["key_accepted"]) == (FAILED, [], False, None)
    assert "http://127.0.0.1:9/v1 can't be reached" in away["wrong"][0]
    code, out, _ = typed(state, "doctor")
    assert (code, "warning engine http://127.0.0.1:9/v1 can't be reached" in out) == (DONE, True)


def test_a_key_that_is_refused_and_one_that_is_missing_are_told_apart(state: Path, server: OwnEngine) -> None:
    configure(server.url, key="sk-theirs")
    assert "refuses our key (401: Incorrect API key provided)" in wrong(state)
    configure(server.url, key=None)
    assert "wants a key, and none is configured" in wrong(state)
    configure(server.url, key="")
    code, _, error = typed(state, "engine", "check")
    assert (code, "key.txt is empty" in error) == (FAILED, True)


def test_a_model_that_is_not_there_is_named_beside_those_that_are(state: Path, server: OwnEngine) -> None:
    configure(server.url, model="their-model")
    assert f"knows no model 'their-model'; it has {MODEL}" in wrong(state)


def test_a_server_that_keeps_no_list_and_wants_other_words_for_the_length_is_well(
    state: Path, server: OwnEngine
) -> None:
    server.lists, server.completion_tokens = False, True
    configure(server.url)
    one = checked(state)
    assert (one["model_known"], one["models"], one["streams"]) == (True, None, True)


def test_a_stream_without_done_is_wrong_and_one_without_usage_is_said(state: Path, server: OwnEngine) -> None:
    server.usage = False
    configure(server.url)
    assert checked(state)["usage_in_streams"] is False
    server.done = False
    assert "ends a stream without `data: [DONE]`" in wrong(state)


def test_an_address_that_is_another_services_says_what_to_check(state: Path, server: OwnEngine) -> None:
    configure(server.url.removesuffix("/v1"))
    assert "has no /chat/completions (404): check the address, which usually ends with /v1" in wrong(state)
    server.html = True
    configure(server.url)
    assert "not as OpenAI's API does" in wrong(state)


def test_of_vllm_it_is_said_whether_it_loads_adapters_and_which_it_has(state: Path, server: OwnEngine) -> None:
    configure(server.url, kind="vllm")
    assert "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in wrong(state)
    server.adapters = ["tt-0123456789ab"]
    one = checked(state)
    assert (one["loads_adapters"], one["adapters"]) == (True, ["tt-0123456789ab"])
    assert "adapters it has tt-0123456789ab" in typed(state, "engine", "check")[1]


def test_of_the_local_engine_it_says_what_base_is_found(state: Path) -> None:
    assert document(state, "engine", "check") == {"kind": "local", "base": None}
    assert "`tiny`, which will be trained with the first candidate" in typed(state, "engine", "check")[1]
    Path("trimtab.toml").write_text('[base]\nname = "smollm2"\n')
    assert "SmolLM2-135M-Instruct, licence Apache-2.0" in typed(state, "engine", "check")[1]


def test_the_doctor_asks_for_no_reply(state: Path, server: OwnEngine) -> None:
    configure(server.url)
    (found,) = [one for one in document(state, "doctor") if one["check"] == "engine"]
    assert (found["outcome"], NOT_TRAINED in found["sentence"]) == ("ok", True)
    assert [path for path, _ in server.asked] == ["/v1/models"]


@pytest.mark.parametrize("wrong", ["address", "model"])
def test_the_doctor_does_not_vouch_for_an_engine_that_does_not_list_the_model(
    state: Path, server: OwnEngine, wrong: str
) -> None:
    if wrong == "address":
        configure(server.url.removesuffix("/v1"))
    else:
        configure(server.url, model="another")
    (found,) = [one for one in document(state, "doctor") if one["check"] == "engine"]
    assert found["outcome"] == "warning"
    assert "`trimtab engine check` asks it for a reply" in found["sentence"]


def test_while_a_gateway_runs_its_engine_is_the_one_that_is_checked(state: Path, server: OwnEngine) -> None:
    """`trimtab up --engine ...` in one terminal, `engine check` in another: nothing is in trimtab.toml."""
    server.key = None
    named = Settings(engine=EngineSettings(kind="openai", urls=[server.url], model=MODEL))
    with State(state).play("gateway"):
        note_engine(State(state), named)
        assert checked(state)["url"] == server.url
    assert document(state, "engine", "check")["kind"] == "local"
