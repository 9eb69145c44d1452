"""Looking changes nothing: what only reads leaves a state directory as it was, byte for byte, and makes none."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from deploy.cli import common, trimtab
from deploy.control.store import open_control
from deploy.state import open_state

OLD = Path(__file__).parents[1] / "fixtures" / "state-0.1.0.tar.xz"
LOOKS = [
    "status",
    "doctor",
    "candidates",
    "history",
    "history --shares",
    "topics describe",
    "topics lag",
    "costs",
    "dataset ls",
    "dataset show 20261107",
    "dead-letters ls",
    "keys ls",
]


def typed(words: str, state: Path) -> int:
    return common.run(lambda: trimtab.main([*words.split(), "--state", str(state)], standalone_mode=False))


def content(root: Path) -> dict[str, str]:
    """Every file and what is in it; the files that SQLite keeps beside a database while it is open are its own."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "state").chmod(0o700)
    return tmp_path / "state"


@pytest.mark.parametrize("words", LOOKS)
def test_a_directory_of_an_earlier_version_stays_as_it_was(
    words: str, old: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old)
    before = content(old)
    code = typed(words, old)
    assert (code, capsys.readouterr().err) == (0, "")
    assert content(old) == before


@pytest.mark.parametrize("words", LOOKS)
def test_a_directory_of_this_version_stays_as_it_was(
    words: str, old: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old)
    open_control(open_state(old).control).close()
    before = content(old)
    assert typed(words, old) == 0
    assert content(old) == before


@pytest.mark.parametrize("words", [words for words in LOOKS if not words.startswith("dataset show")])
def test_a_fresh_directory_is_looked_at_as_it_is(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = open_state(tmp_path / "state").root
    monkeypatch.chdir(root)
    before = content(root)
    assert typed(words, root) == 0, capsys.readouterr().err
    assert content(root) == before


@pytest.mark.parametrize("words", LOOKS)
def test_no_directory_is_made_by_looking_and_the_sentence_says_what_makes_one(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed(words, tmp_path / "state") == 1
    said = capsys.readouterr()
    assert "there is no state directory" in said.err + said.out.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []
