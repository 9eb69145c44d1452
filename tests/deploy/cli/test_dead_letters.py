"""`trimtab dead-letters`, as it is typed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from deploy.parts import open_log
from deploy.settings import Settings
from deploy.state import open_state
from feedback.intake.contract import Rejected
from streams.dead_letters import dead_letter
from tests.deploy.cli.test_common import document, typed
from tests.fakes import CLOCK

Buried = Callable[..., Path]


@pytest.fixture
def buried(tmp_path: Path) -> Buried:
    """Bury these bytes; answers the state directory."""
    state = open_state(tmp_path / "state")

    def bury(*values: bytes, at_us: int = 1) -> Path:
        wrong = Rejected("bad_json", "", "no valid JSON: [b]it[/b] ends \x1b[2J early")
        with closing(open_log(state, Settings(), CLOCK)) as log:
            log.append([dead_letter(wrong, value, at_us, file="a.jsonl", line=n) for n, value in enumerate(values)])
        return state.root

    return bury


def test_letters_are_counted_and_shown_and_never_obeyed(buried: Buried) -> None:
    state = buried(b'{"a', b"\x1b[31m\xff")
    first, second = document(state, "dead-letters", "ls")
    assert (first["reason"], first["where"], first["bytes"]) == ("bad_json", "a.jsonl, line 0", 3)
    whole = document(state, "dead-letters", "show", second["id"])
    assert base64.b64decode(whole["value_base64"]) == b"\x1b[31m\xff"
    for words in (("ls",), ("show", second["id"])):
        code, out, error = typed(state, "dead-letters", *words)
        assert (code, error, "\x1b" in out) == (0, "", False)
    assert "[b]it[/b]" in out
    assert out.endswith("[31m\\xff")


def test_only_letters_of_the_reason_are_listed(buried: Buried) -> None:
    state = buried(b"x")
    assert typed(state, "dead-letters", "ls", "--reason", "future")[:2] == (0, "no dead letters")
    assert typed(state, "dead-letters", "ls", "--reason", "bad_json")[1].startswith("1 bad_json")


@pytest.mark.parametrize("words", [("show",), ("redrive",), ("redrive", "--yes")])
def test_a_letter_that_is_not_there_is_one_sentence(buried: Buried, words: tuple[str, ...]) -> None:
    code, out, error = typed(buried(b"x"), "dead-letters", *words, "9-9")
    assert (code, out) == (1, "")
    assert error == "trimtab: there is no dead letter 9-9: `trimtab dead-letters ls` lists them"


def test_nothing_is_sent_again_without_a_yes(buried: Buried) -> None:
    state = buried(b"x", b"y")
    ids = [letter["id"] for letter in document(state, "dead-letters", "ls")]
    assert document(state, "dead-letters", "redrive") == {"would_redrive": ids}
    assert document(state, "dead-letters", "redrive", "--newer-than-s", "3600") == {"would_redrive": []}
    code, out, _ = typed(state, "dead-letters", "redrive", ids[0])
    assert (code, out) == (0, "1 dead letters would be sent again; --yes does it")
    assert [letter["redriven"] for letter in document(state, "dead-letters", "ls")] == [False, False]


def test_what_is_still_no_event_is_refused_once_more(buried: Buried) -> None:
    state = buried(b"x")
    answered = document(state, "dead-letters", "redrive", "--yes")
    assert answered["redriven"] == 0
    assert [letter["reason"] for letter in answered["refused"]] == ["bad_json"]
    code, out, _ = typed(state, "dead-letters", "redrive", "--yes")
    assert (code, out.startswith("0 sent again, 1 refused once more")) == (0, True)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e300", "soon"])
def test_an_age_that_is_none_is_wrong_usage(buried: Buried, seconds: str) -> None:
    code, _, error = typed(buried(), "dead-letters", "redrive", "--newer-than-s", seconds)
    assert (code, "Invalid value for '--newer-than-s'" in error) == (2, True)


def test_nothing_is_purged_without_a_yes(buried: Buried) -> None:
    state = buried(b"x", b"y")
    ids = [letter["id"] for letter in document(state, "dead-letters", "ls")]
    assert document(state, "dead-letters", "purge") == {"would_purge": ids}
    code, out, _ = typed(state, "dead-letters", "purge")
    assert (code, out) == (0, "2 dead letters would be removed for good (2 bad_json); --yes does it")
    assert len(document(state, "dead-letters", "ls")) == 2
    assert document(state, "history") == []


def test_a_purged_letter_is_gone_with_its_bytes_and_the_history_tells_of_it(buried: Buried) -> None:
    state = buried(b"very secret", b"stays")
    first, second = document(state, "dead-letters", "ls")
    assert document(state, "dead-letters", "purge", first["id"], "--yes") == {"purged": 1, "reasons": {"bad_json": 1}}
    assert document(state, "dead-letters", "ls") == [second]
    assert typed(state, "dead-letters", "show", first["id"])[0] == 1
    (entry,) = document(state, "history")
    assert (entry["action"], entry["reason"]) == ("dead-letters purge", "1 bad_json")
    for file in state.glob("log.db*"):
        assert b"very secret" not in file.read_bytes()


def test_letters_are_purged_by_reason_and_age(buried: Buried) -> None:
    state = buried(b"x", at_us=CLOCK.now_us())
    assert document(state, "dead-letters", "purge", "--reason", "future", "--yes")["purged"] == 0
    assert document(state, "dead-letters", "purge", "--older-than-s", "1e9", "--yes")["purged"] == 0
    code, out, _ = typed(state, "dead-letters", "purge", "--reason", "bad_json", "--older-than-s", "0", "--yes")
    assert (code, out) == (0, "1 removed (1 bad_json)")
    assert typed(state, "dead-letters", "purge", "--yes")[:2] == (0, "0 removed (none)")


@pytest.mark.parametrize("seconds", ["nan", "-1"])
def test_an_age_that_is_none_purges_nothing(buried: Buried, seconds: str) -> None:
    code, _, error = typed(buried(b"x"), "dead-letters", "purge", "--older-than-s", seconds, "--yes")
    assert (code, "Invalid value for '--older-than-s'" in error) == (2, True)
    assert typed(buried(), "dead-letters", "purge", "9-9", "--yes")[0] == 1
