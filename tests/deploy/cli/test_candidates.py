"""The commands about candidates, rollout and keys, as they are typed."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import common, trimtab
from deploy.control.store import open_control
from deploy.state import open_state
from tests.deploy.candidates import make_candidate
from tests.deploy.cli.test_common import document as printed_json
from tests.deploy.cli.test_common import exactly


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return open_state(tmp_path / "state").root


@pytest.fixture
def typed(state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Type a command; answers (exit code, stdout, stderr)."""
    monkeypatch.chdir(state)
    monkeypatch.setattr(common.stdout, "_width", 200)

    def run(*words: str) -> tuple[int, str, str]:
        code = common.run(lambda: trimtab.main([*words, "--state", str(state)], standalone_mode=False))
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def digest(state: Path) -> str:
    return make_candidate(state / "candidates")


def document(answer: tuple[int, str, str]) -> Any:
    code, out, error = answer
    assert (code, error) == (0, "")
    return json.loads(out)


def test_from_the_list_to_the_incumbent_and_back(typed: Any, digest: str) -> None:
    code, _, error = typed("candidates")
    assert (code, digest[:12] in error) == (0, True), "looking takes nothing in, and says so"
    assert typed("show", digest)[0] == 0
    (view,) = document(typed("candidates", "--json"))
    assert list(view) == [
        "digest",
        "created_at",
        "snapshot",
        "state",
        "stage",
        "share",
        "gate",
        "evidence",
        "evidence_age_s",
    ]
    words = ["approve", digest[:10], "--evidence", view["evidence"][:12], "--reason", "ok", "--override-hold", "--json"]
    assert document(typed(*words))["state"] == "approved"
    for _ in range(5):
        serving = document(typed("promote", "--json"))
    assert serving["incumbent"] == digest
    assert document(typed("rollback", "--incumbent", "--json"))["incumbent"] is None
    code, _, error = typed("rollback", "--incumbent")
    assert (code, "nothing to roll back" in error) == (3, True)


def test_approve_without_evidence_is_refused_where_nobody_can_be_asked(typed: Any, digest: str) -> None:
    code, _, error = typed("approve", digest, "--reason", "r")
    assert code == 3
    assert f"trimtab show {digest[:12]}" in error


def test_exit_codes_tell_failed_refused_and_wrong_usage_apart(typed: Any, digest: str) -> None:
    assert typed("show", "nope")[0] == 1
    assert typed("promote")[0] == 3
    assert typed("reject", digest)[0] == 3
    assert typed("show")[0] == 2
    assert typed("halt")[0] == 0


def test_an_objection_is_on_every_screen_and_blocks_until_it_is_withdrawn(typed: Any, digest: str) -> None:
    evidence = document(typed("show", digest, "--json"))["evidence"]
    words = ["approve", digest, "--evidence", evidence, "--reason", "ok", "--override-hold"]
    code, out, _ = typed("object", digest, "--reason", "it flatters")
    assert (code, "blocked until the objection is withdrawn" in out) == (0, True)
    assert "it flatters" in typed("show", digest)[1]
    code, _, error = typed(*words)
    assert (code, "objects: it flatters" in error) == (3, True)
    assert typed("object", digest, "--withdraw", "--reason", "talked about")[0] == 0
    assert typed(*words)[0] == 0
    typed("object", digest, "--reason", "again")
    code, out, _ = typed("candidates")
    assert (code, "objects: again" in out) == (0, True)


def test_halt_works_beside_a_broken_trimtab_toml(typed: Any, state: Path) -> None:
    (state / "trimtab.toml").write_text("[gate\nnonsense")
    assert typed("promote")[0] == 1
    code, out, _ = typed("halt", "--reason", "all wrong")
    assert (code, "HALTED" in out) == (0, True)
    assert typed("resume")[0] == 0


def test_show_says_why_and_what_to_type_next(typed: Any, digest: str) -> None:
    _, out, _ = typed("show", digest[:8])
    assert "blind comparisons: none yet" in out
    assert "hello" in out
    assert f"next: trimtab shadow start {digest[:12]} --reason" in out
    shown = document(typed("show", digest, "--json"))
    assert shown["report"]["digest"] == digest
    assert (shown["comparisons"]["pairs"], shown["comparisons"]["e"], shown["comparisons"]["needed"]) == (0, 1.0, 25.0)


def test_what_replies_contain_is_shown_and_never_obeyed(typed: Any, state: Path) -> None:
    evil = "\x1b]0;owned\x07 \x1b[2J [bold red]x[/] [link=http://evil.example]y \u202egnihton \u0000"
    sample = {"prompt": [{"role": "user", "content": [evil]}], "candidate": evil, "incumbent": None}
    digest = make_candidate(
        state / "candidates", 7, samples=[sample, "nonsense"], snapshot=evil, reward_model={"accuracy": evil}
    )
    for words in (("show", digest), ("candidates",)):
        code, out, error = typed(*words)
        assert (code, error) == (0, "")
        assert not set(out) & set("\x1b\x07\u202e\x00")
    assert "[bold red]" in typed("show", digest)[1]


def test_a_directory_that_cannot_be_used_does_not_hide_the_others(typed: Any, state: Path, digest: str) -> None:
    broken = make_candidate(state / "candidates", 8)
    (state / "candidates" / broken / "adapter" / "adapter_config.json").write_text("[")
    code, out, error = typed("show", digest)
    assert code == 0
    assert broken[:12] in error
    code, out, error = typed("candidates")
    assert (code, digest[:12] in out, broken[:12] in error) == (0, True, True)


def test_a_report_with_half_a_character_is_shown_and_a_document(state: Path) -> None:
    digest = make_candidate(state / "candidates", samples=[{"prompt": "\ud83d", "candidate": "grüß \udcff"}])
    shown = printed_json(state, "show", digest)
    assert shown["report"]["samples"][0]["candidate"] == "grüß \udcff"
    assert exactly(state, "show", digest)[0] == 0


@pytest.mark.slow
def test_on_a_terminal_approve_shows_and_asks(state: Path, digest: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "deploy.cli", "approve", digest, "--override-hold", "--state", str(state)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = ""
        for question, answer in (
            ("Start the rollout", "y\n"),
            ("Reason", "reads well\n"),
            ("next: trimtab promote", ""),
        ):
            while question not in seen:
                assert select.select([ours], [], [], 60)[0], f"no question within a minute: {seen[-500:]}"
                seen += os.read(ours, 4096).decode(errors="replace")
            os.write(ours, answer.encode())
        assert process.wait(timeout=60) == 0
    os.close(ours)
    with closing(open_control(state / "control.db")) as control, control.read() as tx:
        assert tx.approvals(digest)[0].reason == "reads well"
