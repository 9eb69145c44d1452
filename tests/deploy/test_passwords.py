"""No setting that may hold an address shows a password, whoever looks: at it, at what is wrong with it, or at the log."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from deploy.cli.common import print_json
from deploy.control.store import open_control, read_control
from deploy.errors import Failed, Refused
from deploy.roles.logs import configure
from deploy.settings import Settings, keys, variable
from deploy.state import open_state
from deploy.web.errors import ApiError
from tests.deploy.cli.typed import logs_of_its_own, streams, typed

SECRET = "hunter2"


def may_hold_an_address(key: str) -> bool:
    """Whether a setting is text of any kind."""
    section, name = key.split(".")
    kind = str(type(Settings.model_fields[section].default).model_fields[name].annotation)
    return "str" in kind or "Path" in kind or "Secret" in kind


KEYS = [key for key in keys() if may_hold_an_address(key)]
LISTS = {
    key
    for key in KEYS
    if isinstance(getattr(Settings.model_fields[key.split(".")[0]].default, key.split(".")[1]), tuple)
}
ADDRESSES = [
    f"http://ann:{SECRET}@127.0.0.1:9/v1",
    f"https://:{SECRET}@127.0.0.1:9/v1?api_key={SECRET}",
    f"kafka://ann:{SECRET}@127.0.0.1:9",
    f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:9/x?password={SECRET}",
    f"mysql://ann:{SECRET}@127.0.0.1:port/x",
]


def test_the_walk_passes_every_address_that_there_is() -> None:
    assert {
        "broker.url",
        "control.url",
        "judge.base_url",
        "engine.urls",
        "access.host_names",
        "gateway.cors_origins",
    } < {*KEYS}


@pytest.mark.parametrize("key", KEYS)
def test_no_setting_shows_a_password(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = open_state(tmp_path / "state").root
    for address in ADDRESSES:
        monkeypatch.setenv(variable(key), json.dumps([address]) if key in LISTS else address)
        for words in (("config", "check"), ("config", "check", "--json")):
            assert SECRET not in "".join(map(str, typed(*words, "--state", state)))


@pytest.mark.parametrize("key", ["broker.url", "control.url", "judge.base_url", "engine.urls"])
@pytest.mark.parametrize("command", ["status", "doctor", "up", "topics", "migrate"])
def test_nor_does_who_uses_it(key: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = open_state(tmp_path / "state")
    monkeypatch.setenv(variable("judge.model"), "m")
    words = {"topics": ["topics", "ls"], "migrate": ["migrate", "--to", ADDRESSES[2]]}.get(command, [command])
    with state.lock("up"):  # far enough
        for address in ADDRESSES:
            monkeypatch.setenv(variable(key), json.dumps([address]) if key in LISTS else address)
            for more in ([], ["--json"]):
                assert SECRET not in "".join(map(str, typed(*words, *more, "--state", state.root)))


@pytest.mark.parametrize("opened", [open_control, read_control])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:9/x",
        f"postgresql://ann@127.0.0.1:9/x?password={SECRET}",
        f"mysql://ann:{SECRET}@h/x",
        f"postgresql://ann:{SECRET}@h:port/x",
        f"postgresql+nothing://ann:{SECRET}@h/x",
    ],
)
def test_a_database_that_can_not_be_opened_is_told_of_without(opened: object, url: str) -> None:
    with pytest.raises(Failed) as raised:
        opened(url)  # type: ignore[operator]
    assert SECRET not in str(raised.value)


ADDRESS = ADDRESSES[0]


def test_every_sentence_of_ours_is_masked_whoever_catches_it() -> None:
    for error in (Failed(f"{ADDRESS} can't be reached"), Refused(f"{ADDRESS} can't be reached")):
        assert str(error) == "http://ann:***@127.0.0.1:9/v1 can't be reached"
        assert SECRET not in f"{error} {error!s}"
    assert SECRET not in json.dumps(ApiError(503, "failed", f"{ADDRESS} can't be reached").body)


def test_what_is_printed_is_masked(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({"url": ADDRESS, ADDRESS: [ADDRESS, {"at": (ADDRESS,)}], "path": Path("a/b")})
    out = capsysbinary.readouterr().out
    assert (SECRET.encode() in out, b"ann:***@127.0.0.1:9/v1" in out, b'"a/b"' in out) == (False, True, True)


def test_logs_are_masked_with_their_tracebacks_ours_and_those_of_libraries() -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        with streams() as (_, error), logs_of_its_own():
            root.handlers = []
            configure("gateway")
            log = structlog.get_logger()
            try:
                raise OSError(f"{ADDRESS} broke")
            except OSError:
                log.exception("broken", engine=ADDRESS, more={"urls": [ADDRESS]})
                logging.getLogger("some.library").exception("it says %s", ADDRESS)
            said = error.getvalue().decode()
    finally:
        root.handlers = before
    assert len(said.splitlines()) == 2
    assert "Traceback" in said
    assert "ann:***@" in said
    assert SECRET not in said


@pytest.mark.parametrize("thread", [False, True])
def test_a_traceback_that_nobody_foresaw_is_masked(thread: bool) -> None:
    script = f"""
import threading
from deploy.roles.logs import mask_tracebacks
mask_tracebacks()
def broken():
    raise RuntimeError({ADDRESS!r})
{"t = threading.Thread(target=broken); t.start(); t.join()" if thread else "broken()"}
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr
    assert "RuntimeError: http://ann:***@127.0.0.1:9/v1" in told
    assert "Traceback" in told
