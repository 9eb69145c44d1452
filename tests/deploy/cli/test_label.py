"""`trimtab label`, as it is typed: with keys on a real terminal, with lines in a script, with JSON in a program."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import random
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deploy.cli import label
from deploy.cli.decide import actor
from deploy.control.store import Control, open_control
from deploy.rules.comparing import JUDGE, ComparisonLabel
from deploy.state import open_state
from tests.deploy.cli.test_common import document, exactly, typed
from tests.deploy.commands import environment
from tests.deploy.pairs import CANDIDATE, PATIENCE_US, SUPPORT, add_candidate, pair
from tests.fakes import CLOCK, DEADLINE_S

PAGE = Path(__file__).parents[3] / "docs" / "label.md"
PAIRS = [pair(n, at_us=CLOCK.now_us()) for n in range(1, 6)]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with pairs of a candidate on which nobody has decided."""
    root = open_state(tmp_path / "state").root
    with closing(store(root)) as control:
        add_candidate(control)
        control.comparisons.add(PAIRS)
    return root


def store(state: Path) -> Control:
    return open_control(open_state(state).control)


def said(state: Path) -> dict[str, list[tuple[str, float | None, str]]]:
    """Who said what and why, of each pair that has labels."""
    with closing(store(state)) as control:
        stored = control.comparisons.of(CANDIDATE, None)
    return {
        one.id: [(label.labeller, label.preference, label.reason) for label in one.labels]
        for one in stored
        if one.labels
    }


def candidates_key(screen: str, n: int) -> str:
    """Which key says that the candidate's reply is better, on a screen of the n-th pair."""
    ours, theirs = screen.rindex(f"the candidate's answer {n}"), screen.rindex(f"the incumbent's answer {n}")
    return "1" if ours < theirs else "2"


def test_a_script_answers_line_by_line(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n\nx\n0\ne\nboth are fine\n2\ns\nq\n"))
    code, out, error = exactly(state, "label", "--as", "anna")
    assert (code, error) == (0, "")
    assert out.count("e give a reason") == 5 + 2
    assert out.endswith("4 labelled now; `trimtab label` goes on where you stopped\n")
    told = said(state)
    assert [told[one.id][0][0] for one in PAIRS[:4]] == ["anna"] * 4
    assert told[PAIRS[1].id] == [("anna", 0.5, "")]
    assert told[PAIRS[2].id][0][2] == "both are fine"
    assert told[PAIRS[3].id] == [("anna", None, "")]


def test_when_nothing_is_left_it_says_what_happens_next(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n" * 9))
    code, out, _ = typed(state, "label")
    assert code == 0
    assert "5 labelled by you · 5 of 5 labels in all nothing is left for you" in out
    assert "`trimtab candidates` says what it finds" in out
    assert {who for labels in said(state).values() for who, _, _ in labels} == {actor()}
    assert typed(state, "label", "--as", "ben")[1].startswith("you are ben 0 labelled by you")


def test_a_script_that_ends_early_leaves_no_pair_behind(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    assert typed(state, "label", "--as", "anna")[0] == 0
    assert document(state, "label", "--as", "ben")["pair"]["id"] == PAIRS[1].id


def test_a_program_asks_and_answers_with_json(state: Path) -> None:
    found = document(state, "label", "--as", "anna")
    assert found["pair"].keys() == {"id", "locale", "prompt", "first", "second"}
    assert found == document(state, "label", "--as", "anna")
    answered = document(
        state, "label", "--as", "anna", "--answer", found["pair"]["id"], "tie", "--reason", "no\x1b[1m odds"
    )
    assert (answered["answer"], answered["progress"]["labelled"]) == ("tie", 1)
    assert said(state) == {PAIRS[0].id: [("anna", 0.5, "no�[1m odds")]}
    code, out, _ = typed(state, "label", "--as", "anna", "--answer", found["pair"]["id"], "tie")
    assert (code, out) == (0, "stored: no difference 1 labelled by you · 1 of 5 labels in all")


def test_an_answer_that_can_not_be_taken_is_one_sentence(state: Path) -> None:
    code, out, error = typed(state, "label", "--as", "anna", "--answer", PAIRS[0].id, "first")
    assert (code, out) == (3, "")
    assert error == "trimtab: anna was not asked about this pair: ask for the next one, and answer with its id"
    assert typed(state, "label", "--as", "anna", "--answer", "nope", "first")[0] == 1
    assert typed(state, "label", "--as", "anna", "--answer", PAIRS[0].id, "best")[0] == 2
    assert typed(state, "label", "--reason", "because")[0] == 2
    for nobody in ("", " ", "\t"):
        code, out, error = typed(state, "label", "--as", nobody)
        assert (code, error) == (1, "trimtab: say who labels: a person needs a name")
    assert said(state) == {}


def recorded(state: Path, keys: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of 100 columns shows of a session in which these keys are pressed, screen after screen."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=40, color_system=None, highlight=False)
    monkeypatch.setattr(label, "stdout", console)
    monkeypatch.setattr(label.secrets, "SystemRandom", lambda: random.Random(1))
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(keys)))
    assert exactly(state, "label", "--as", "anna")[0] == 0
    return (
        "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", screen.getvalue()).splitlines()) + "\n"
    )


def test_the_recording_in_the_docs_is_what_a_terminal_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = open_state(tmp_path / "shop").root
    with closing(store(root)) as control:
        add_candidate(control)
        control.comparisons.add([replace(one, until_us=CLOCK.now_us() + PATIENCE_US) for one in SUPPORT])
        control.comparisons.label([ComparisonLabel(SUPPORT[0].id, JUDGE, 0.9, 1, {})])
    shown = recorded(root, "10", monkeypatch)
    assert f"```text\n{shown}```\n" in PAGE.read_text(), f"docs/label.md should have:\n{shown}"


class Screen:
    """A command on a real terminal: `press` keys, wait until something is `shown`."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd, self.process, self.text = fd, process, ""

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def shown(self, what: str) -> str:
        """All that came up to there, since the last time."""
        deadline = time.monotonic() + DEADLINE_S
        while what not in self.text:
            ready, _, _ = select.select([self._fd], [], [], deadline - time.monotonic())
            assert ready, f"{what!r} never came: {self.text!r}"
            try:
                self.text += os.read(self._fd, 65_536).decode()
            except OSError:  # it has ended
                assert what in self.text, self.text
        seen, _, self.text = self.text.partition(what)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen + what)

    def modes(self) -> list[object]:
        return termios.tcgetattr(self._fd)[:4]


@contextmanager
def on_a_terminal(state: Path, *words: str) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", *words, "--state", str(state)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take_terminal,
        env=environment(TERM="xterm-256color", COLUMNS="120", LINES="40"),
    )  # fmt: skip
    try:
        yield Screen(ours, process)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def take_terminal() -> None:
    """Make standard input the terminal that sends Ctrl-C, as a shell does."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


END = "q quit"


@pytest.mark.slow
def test_keys_on_a_terminal_label_one_pair_after_another(state: Path) -> None:
    with closing(store(state)) as control:
        control.comparisons.label([ComparisonLabel(PAIRS[0].id, JUDGE, 1.0, 1, {})])
    with on_a_terminal(state, "label", "--as", "anna") as screen:
        before = screen.modes()
        first = screen.shown(END)
        assert "0 labelled by you · 0 of 5 labels in all" in first
        assert "judge" not in first
        assert screen.modes() != before
        screen.press("\x1b[1~")  # the key Home: it has a 1 in it
        screen.shown(END)
        screen.press("2 is better, pasted")
        screen.shown(END)
        screen.press(candidates_key(first, 1))
        second = screen.shown(END)
        assert "1 labelled by you · 1 of 5 labels in all · the same as the judge on 1 of 1 pairs" in second
        screen.press("e")
        screen.shown("(Enter ends it): ")
        screen.press("half right\x1b, überall\n")
        screen.shown(END)
        screen.press("0")
        third = screen.shown(END)
        screen.press("1" if candidates_key(third, 3) == "2" else "2")
        screen.shown(END)
        screen.press("s")
        screen.shown(END)
        screen.press("\x03")  # Ctrl-C
        screen.shown("4 labelled now; `trimtab label` goes on where you stopped")
        assert screen.process.wait(DEADLINE_S) == 0
        assert screen.modes() == before
    told = said(state)
    assert [label[:2] for label in told[PAIRS[0].id]] == [(JUDGE, 1.0), ("anna", 1.0)]
    assert told[PAIRS[1].id] == [("anna", 0.5, "half right�, überall")]
    assert told[PAIRS[2].id] == [("anna", 0.0, "")]
    assert told[PAIRS[3].id] == [("anna", None, "")]
    assert PAIRS[4].id not in told
    assert document(state, "label", "--as", "ben")["pair"]["id"] == PAIRS[4].id
