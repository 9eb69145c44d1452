"""What README and docs say is so: their commands run or at least parse, examples are valid, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from deploy.cli import trimtab
from deploy.cli.reference import PAGES
from deploy.settings import SECRETS, Settings
from feedback.intake import contract
from feedback.judge.rubric import Rubric
from feedback.records import Rating, Turn
from tests.deploy.cli.typed import typed

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SAMPLE = "examples/support.jsonl.gz"
MAX_LINES = 450

NEEDS = {
    "migrate": "a Kafka cluster",
    "up": "a running service",
    "worker": "a running service",
    "gateway": "a running service",
    "trainer": "a running service",
    "controller": "a running service",
    "train": "minutes of training",
    "show": "a candidate",
    "approve": "a candidate",
    "reject": "a candidate",
    "object": "a candidate",
    "shadow start": "a candidate",
    "shadow stop": "a candidate in the shadow",
    "promote": "a rollout",
    "pause": "a rollout",
    "rollback": "a rollout",
    "resume": "a halt",
    "dead-letters show": "that dead letter",
    "keys revoke": "that key",
}
"""Commands of ours that are only parsed, and what running them would need."""

TOOLS = {
    "curl": "a running service",
    "docker": "Docker",
    ".venv/bin/uv": "another package index",
    "uv": "another package index",
    "make": "an installation",
    "touch": "an installation",
    "python": "the generator",
}
"""Commands of others that are only looked at, and what running them would need."""

HARMLESS = {"awk"}


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, *languages: str) -> Iterator[str]:
    """The contents of the fenced blocks in one of these languages."""
    for language, content in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in languages:
            yield content


def commands(path: Path) -> list[str]:
    """Every shell command of a page, in order, continued lines joined."""
    text = path.read_text()
    found = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    for block in blocks(text, "console"):
        found += [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    unfenced = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return found + re.findall(r"^ {4}((?:trimtab|python|make) .*)", unfenced, re.MULTILINE)


def words(command: str) -> list[str]:
    """The command's words, without what the shell does with its output."""
    return shlex.split(command.split(" > ")[0].split(" | ")[0], comments=True)


def subcommands(command: str) -> list[str]:
    """`trimtab dataset show X` → ["dataset", "show"], as far as these are commands."""
    found: list[str] = []
    at: click.Command = trimtab
    for word in words(command)[1:]:
        if not isinstance(at, click.Group):
            break
        inner = at.get_command(click.Context(at), word)
        if inner is None:
            break
        found.append(word)
        at = inner
    return found


def parse(command: str) -> None:
    """Raise click's own error where a command of ours does not exist, or not with these arguments."""
    at: click.Command = trimtab
    parent, left = None, words(command)[1:]
    while True:
        context = at.make_context(at.name, left, parent=parent)
        if not isinstance(at, click.Group):
            return
        name, inner, left = at.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None, name
        at, parent = inner, context


def environment(home: Path) -> dict[str, str]:
    """Nothing of Trimtab's own set, and its command on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PYTHONSAFEPATH": "1", "COLUMNS": "100", "PATH": path, "HOME": str(home)}


RUBRIC = 'name = "mine"\ninstructions = "Judge."\nitems = [{name = "correct", description = "It is right."}]\n'


FOREIGN = {
    "chats.jsonl": "openai.jsonl",
    "chat-export.json": "open-webui.json",
    "feedback-export.json": "open-webui.json",
    "ratings.csv": "ratings.csv",
}


def furnish(folder: Path) -> None:
    """The files that the pages' commands name."""
    (folder / "examples").mkdir()
    for name in ("support.jsonl.gz", "generate_support.py"):
        shutil.copy(ROOT / "examples" / name, folder / "examples")
    events = [json.loads(block) for block in blocks((ROOT / "docs" / "connect-your-bot.md").read_text(), "json")]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    for day in ("monday", "tuesday"):
        shutil.copy(ROOT / SAMPLE, folder / f"{day}.jsonl.gz")
    foreign = ROOT / "tests" / "feedback" / "intake" / "foreign"
    for name, file in FOREIGN.items():
        shutil.copy(foreign / file, folder / name)
    for name in ("my-rubric.toml", "old.toml", "new.toml"):
        (folder / name).write_text(RUBRIC)
    (folder / "key.txt").write_text("sk-example\n")
    shutil.copy(ROOT / "requirements.lock", folder)


@pytest.fixture(scope="module")
def used_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the sample in it and two snapshots."""
    folder = tmp_path_factory.mktemp("used")
    state = ["--state", str(folder / "state")]
    for more in ([], ["--as-of", "2026-11-13T00:00:00Z"]):
        replayed = typed("replay", "--no-train", str(ROOT / SAMPLE), *more, *state)
        assert replayed.code == 0, replayed.error
    return folder / "state"


@pytest.mark.parametrize("path", [path for path in DOCS if commands(path)], ids=page_name)
def test_every_command_of_a_page_exists_with_its_options(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    targets = set(re.findall(r"^([.\w/]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(path):
        first, *rest = words(command)
        if first == "trimtab":
            parse(command)
        elif first == "make":
            assert set(rest) <= targets, command
        elif first == "curl":
            route = next(word for word in rest if word.startswith("http://127.0.0.1:8400/")).split(":8400")[1]
            assert any(f'"{route}"' in file.read_text() for file in (ROOT / "deploy" / "gateway").glob("*.py")), command
            for body in (rest[at + 1] for at, word in enumerate(rest) if word == "-d"):
                assert isinstance(json.loads(body), dict), command
        else:
            assert first in TOOLS or first in HARMLESS, f"{page_name(path)}: {command}: not known to this test"


@pytest.mark.parametrize(
    "command", ["trimtab replya x", "trimtab status --jsn", "trimtab dataset show", "trimtab up 1"]
)
def test_a_mistaken_command_is_noticed(command: str) -> None:
    with pytest.raises(click.UsageError):
        parse(command)


def test_the_examples_in_the_help_of_commands_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^    (trimtab .*)", PAGES["cli.md"](), re.MULTILINE)
    assert len(examples) > 30
    for example in examples:
        parse(example)


def shell(command: str, folder: Path) -> tuple[int, str]:
    """Run it as it stands there: its exit code, and what it says of an error."""
    bash = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(bash, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=200)
    return done.returncode, done.stderr


def is_cheap(command: str) -> bool:
    first, *rest = words(command)
    if first != "trimtab":
        return first in HARMLESS
    found = subcommands(command)
    needs = found[0] in NEEDS or " ".join(found) in NEEDS
    return not needs and (found[0] != "replay" or "--no-train" in rest)


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("path", [path for path in DOCS if any(map(is_cheap, commands(path)))], ids=page_name)
def test_the_cheap_commands_of_a_page_run(
    path: Path, tmp_path: Path, used_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path)
    shutil.copytree(used_state, tmp_path / ".trimtab", symlinks=True)
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - environment(tmp_path).keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for command in filter(is_cheap, dict.fromkeys(commands(path))):
        first, *rest = shlex.split(command, comments=True)
        if first == "trimtab" and not {">", "|"} & set(rest):
            code, _, error = typed(*rest)
        else:
            code, error = shell(command, tmp_path)
        assert code == 0, f"{page_name(path)}: {command}\n{error}"


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
def test_the_account_in_the_readme_is_that_of_the_sample_that_ships(used_state: Path) -> None:
    sealed = {json.loads(file.read_bytes())["dataset_hash"] for file in used_state.glob("snapshots/*/manifest.json")}
    printed = re.findall(r"^sha256:[0-9a-f]{64}$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert printed, "README.md shows what a replay prints"
    assert set(printed) <= sealed


def test_the_cpu_lock_of_the_readme_leaves_out_cuda_and_nothing_else(tmp_path: Path) -> None:
    command = next(command for command in commands(ROOT / "README.md") if command.startswith("awk"))
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    pin = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
    full, cpu = (dict(pin.findall((tmp_path / name).read_text())) for name in ("requirements.lock", "cpu.lock"))
    left_out = full.keys() - cpu.keys()
    assert {"torch", "triton", "cuda-toolkit", "nvidia-cublas"} <= left_out
    assert all(name in ("torch", "triton") or name.startswith(("cuda-", "nvidia-")) for name in left_out)
    assert f"torch=={full['torch']} " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", DOCS, ids=page_name)
def test_the_examples_of_a_page_are_valid(path: Path) -> None:
    text = path.read_text()
    for block in blocks(text, "json"):
        event = contract.parse(block.encode(), time.time_ns() // 1000)
        assert isinstance(event, Turn | Rating), event
    for block in blocks(text, "python"):
        compile(block, page_name(path), "exec")
    for block in blocks(text, "toml"):
        document: dict[str, Any] = tomllib.loads(block)
        if "items" in document:
            msgspec.convert(document, Rubric)
        else:
            assert not any(key in document.get(section, {}) for section, key, _ in SECRETS)
            Settings(**document)


@pytest.mark.parametrize("path", [*DOCS, ROOT / "CHANGELOG.md"], ids=page_name)
def test_every_link_inside_the_repository_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{page_name(path)} links to {target}"
            if anchor:
                titles = re.findall(r"^#+ (.*)", there.read_text(), re.MULTILINE)
                slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
                assert anchor in slugs, f"{page_name(path)} links to {target}"


def test_files_that_the_architecture_names_exist() -> None:
    named = re.findall(
        r"`((?:feedback|streams|models|deploy|dashboards|bench)/[\w./]*)`", (ROOT / "docs/architecture.md").read_text()
    )
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).exists(), f"docs/architecture.md names {name}"


def test_messages_in_the_troubleshooting_table_are_those_of_the_code() -> None:
    files = [file for package in ("feedback", "streams", "models", "deploy") for file in (ROOT / package).rglob("*.py")]
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(file.read_text() for file in files))
    rows = [
        line.split("|")[1] for line in (ROOT / "docs/troubleshoot.md").read_text().splitlines() if line.startswith("| ")
    ]
    quoted = [
        part.strip(" ,:;()") for row in rows for message in re.findall(r"`([^`]+)`", row) for part in message.split("…")
    ]
    assert len(quoted) > 60
    assert [part for part in quoted if part not in source] == []


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_machine_or_a_package_index() -> None:
    # written in pieces, so that this file does not name them either
    machine = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "/home" + "/(?!trimtab)", "/Use" + "rs/"]))
    index = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted\.", "download\\." + "pytorch"]))
    for path in tracked():
        if path.suffix in (".gz", ".xz", ".png"):
            continue
        text = path.read_text()
        assert not machine.search(text), page_name(path)
        allowed = re.sub(r"--index-url https://\S+/whl/cpu", "", text) if path == ROOT / "README.md" else text
        assert not index.search(allowed), page_name(path)


def test_no_file_is_too_long_to_read() -> None:
    generated = (".lock", ".json", ".gz", ".xz")
    for path in tracked():
        if path.suffix in generated or path.name == "LICENSE" or path.parent.name == "reference":
            continue
        assert len(path.read_text().splitlines()) <= MAX_LINES, page_name(path)
