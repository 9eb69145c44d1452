"""What holds for the program as a whole: the wheel runs anywhere, every command has help, every setting a reader."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy.cli import trimtab
from deploy.settings import Settings, keys
from deploy.state import open_state
from feedback.settings import Section
from tests.deploy.commands import part_of_sample

ROOT = Path(__file__).parents[1]
PACKAGES = ("feedback", "streams", "models", "deploy")


def every_command(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command itself and all below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from every_command(inner, (*path, name))


COMMANDS = dict(every_command(trimtab, ("trimtab",)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_printed_and_nothing_else_done(path: tuple[str, ...], tmp_path: Path) -> None:
    answered = CliRunner().invoke(trimtab, [*path[1:], "--help"], env={"TRIMTAB_STATE": str(tmp_path / "state")})
    assert answered.exit_code == 0, answered.output
    assert answered.output.startswith("Usage: ")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "path", [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)], ids=" ".join
)
def test_a_command_has_an_example_in_its_help_or_its_groups(path: tuple[str, ...]) -> None:
    helps = [COMMANDS[path[:length]].help or "" for length in range(2, len(path) + 1)]
    examples = [line.strip() for text in helps for line in text.splitlines()]
    assert any(re.match(rf"{' '.join(path)}\b", line) for line in examples)


KEYS = list(keys())
READ_ELSEWHERE = {
    "control.url": 'CONTROL_URL = "TRIMTAB_CONTROL__URL"',
    "judge.free": "settings.judge.unpriced",
    "reward.learning_rate": "rate = settings.rate(base.tiny)",
    "policy.learning_rate": "learning_rate=settings.rate(base.tiny)",
    "policy.sample_tokens": "spec.policy.reply_tokens(base.tiny)",
}
"""Read by these lines: straight from the environment, so that `halt` works beside a broken trimtab.toml; by the base, where not set."""


def section(key: str) -> type[Section]:
    kind = Settings.model_fields[key.split(".")[0]].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, Section)
    return kind


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_is_described(key: str) -> None:
    assert (section(key).model_fields[key.split(".")[1]].description or "").endswith(".")


@cache
def sources() -> list[str]:
    """What may read a setting."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py") if file.name != "settings.py"]
    return [file.read_text() for file in files]


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_is_read_somewhere(key: str) -> None:
    part, name = key.split(".")
    if key in READ_ELSEWHERE:
        assert any(READ_ELSEWHERE[key] in text for text in sources())
        return
    has_section = re.compile(rf"\b{section(key).__name__}\b|\b_?(settings|spec)(\(\))?\.{part}\b")
    reads = re.compile(rf"\.{name}\b")
    assert any(reads.search(text) and has_section.search(text) for text in sources()), f"nothing reads {key}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but that wheel in it, which finds its dependencies in ours."""
    folder = tmp_path_factory.mktemp("installed")
    make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]  # a pip of its own takes longer than all else
    subprocess.run(make, check=True, capture_output=True, timeout=200)
    install = [
        *(sys.executable, "-P", "-m", "pip", "--python", str(folder / "bin" / "python")),
        "install",
        "--no-index",
        "--no-deps",
        "--disable-pip-version-check",
        str(wheel),
    ]
    done = subprocess.run(install, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    site = next(folder.glob("lib/python*/site-packages"))
    # a path line, so that the editable install's own .pth file over there is not obeyed
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "trimtab"


HOSTILE = """
import pathlib
pathlib.Path({mark!r}).write_text(__name__)
raise SystemExit("a stranger's package was imported: " + __name__)
"""


def plant(folder: Path, mark: Path) -> None:
    """Packages named like ours, which leave a mark when they are imported."""
    for name in (*PACKAGES, "dashboards"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(HOSTILE.format(mark=str(mark)))


def run(trimtab_script: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRIMTAB_", "PYTHON", "COV_"))}
    return subprocess.run(
        [str(trimtab_script), *arguments], cwd=cwd, env=kept, capture_output=True, text=True, timeout=250
    )


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {*PACKAGES, "dashboards"}
    assert {"feedback/judge/rubric.toml", "dashboards/alerts.yaml", "deploy/cli/__main__.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_wheel_never_imports_packages_of_the_working_directory(installed: Path, tmp_path: Path) -> None:
    mark, state = tmp_path / "imported", tmp_path / "state"
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    plant(folder, mark)
    version = run(installed, "--version", cwd=folder)
    assert (version.returncode, version.stdout.split()[0]) == (0, "trimtab,"), version.stderr
    replayed = run(installed, "replay", str(part_of_sample(tmp_path)), "--no-train", "--state", str(state), cwd=folder)
    assert replayed.returncode == 0, replayed.stderr
    assert not mark.exists()

    # Children: the training job works in the state directory, so strangers wait for it there as well. It fails, by a
    # base that is not there, before it loads torch; its sentence shows that it is ours.
    plant(open_state(state).root, mark)
    (folder / "trimtab.toml").write_text('[base]\nname = "./no-such-base"\n')
    trained = run(installed, "train", "--state", str(state), cwd=folder)
    assert trained.returncode == 1, trained.stderr
    assert "there is no base model directory ./no-such-base" in trained.stderr
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_roles_that_up_starts_never_import_packages_of_the_working_directory(
    installed: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "imported"
    plant(tmp_path, mark)
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that the roles start, import all they need, and refuse
        port = taken.getsockname()[1]
        ports = ["--port", str(port), "--admin-port", str(port)]
        refused = run(installed, "up", *ports, "--state", str(tmp_path / "state"), cwd=tmp_path)
    assert refused.returncode == 1
    assert f"127.0.0.1:{port} can't be used" in refused.stderr
    assert not mark.exists(), mark.read_text()
