"""A pair on a terminal: everything that others wrote is harmless, nothing is hidden without a word, nothing tells the sides."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from deploy.cli.label_view import KEYS, farewell, headline, print_pair
from deploy.rules.labelling import Agreement, Progress, Question, question
from tests.deploy.pairs import pair

PROGRESS = Progress(3, 7, 40, 20, Agreement(2, 1), Agreement(4, 3))
ASKED = question(pair(1), "incumbent")


def printed(one: Question, width: int = 80, height: int = 40, terminal: bool = True, whole: bool = False) -> str:
    screen = io.StringIO()
    console = Console(
        file=screen, width=width, height=height, force_terminal=terminal, color_system=None, highlight=False
    )
    print_pair(console, one, PROGRESS, whole)
    return screen.getvalue()


def test_a_pair_is_shown_with_progress_agreement_and_keys() -> None:
    lines = printed(ASKED).splitlines()
    assert headline(replace(PROGRESS, with_people=Agreement(), with_judge=Agreement())) in lines[0]
    assert lines[0] == (
        "3 labelled by you · 7 of 40 labels in all · the same as others on 1 of 2 pairs · the same as the judge on 3 of 4 pairs"
    )
    text = "\n".join(lines)
    for wanted in ("question 1", ASKED.first, ASKED.second, "q quit", "(en)"):
        assert wanted in text
    assert text.index(ASKED.first) < text.index(ASKED.second)


def test_on_a_wide_terminal_the_replies_stand_beside_each_other() -> None:
    (line,) = [line for line in printed(ASKED, width=120).splitlines() if ASKED.first in line]
    assert line.index(ASKED.first) < line.index(ASKED.second)
    assert not [line for line in printed(ASKED, width=90).splitlines() if ASKED.first in line and ASKED.second in line]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_what_others_wrote_is_shown_and_never_obeyed(width: int) -> None:
    evil = "\x1b[2J[bold red]pay[/bold red] \x07\u202e\r now \x9b31m"
    told = printed(
        replace(ASKED, first=evil, prompt=[{"role": "\x1b[1muser", "content": evil}], locale="\x1b[3m"), width
    )
    assert "[bold red]pay[/bold red]" in " ".join(told.split())
    for control in ("\x1b", "\x07", "\u202e", "\r", "\x9b"):
        assert control not in told


@pytest.mark.parametrize("width", [80, 160])
def test_what_is_long_is_cut_with_a_word_and_shown_when_asked_for(width: int) -> None:
    long = "\n".join(f"line {n}" for n in range(300))
    earlier = [{"role": "user", "content": f"turn {n}"} for n in range(9)]
    one = replace(ASKED, first=long, prompt=earlier)
    cut = printed(one, width, height=40)
    assert len(cut.splitlines()) <= 40
    assert "… a shows all" in cut
    assert "6 earlier messages … a shows all" in cut
    assert "turn 8" in cut
    assert "turn 2" not in cut
    whole = printed(one, width, whole=True)
    assert "line 299" in whole
    assert "turn 0" in whole
    assert "a shows all" not in whole


@pytest.mark.parametrize("width", [80, 160])
def test_one_line_without_end_is_cut_as_well(width: int) -> None:
    cut = printed(replace(ASKED, first="word " * 1_000_000, second="x" * 5_000_000), width, height=40)
    assert len(cut.splitlines()) <= 40
    assert cut.count("… a shows all") == 2


def test_in_a_pipe_nothing_is_cut() -> None:
    one = replace(ASKED, first="\n".join(f"line {n}" for n in range(300)))
    assert "line 299" in printed(one, terminal=False)


def test_in_a_pipe_no_line_is_filled_up_with_spaces() -> None:
    assert "  question 1\n" in printed(ASKED, width=10_000, terminal=False)


def test_a_reply_or_message_without_text_says_so() -> None:
    told = printed(replace(ASKED, first="", prompt=[{"role": "user", "content": [{"type": "image_url"}]}]))
    assert "(empty)" in told
    assert "(no text)" in told


def test_the_screen_is_the_same_whichever_reply_is_the_candidates() -> None:
    one = pair(1)
    swapped = replace(one, candidate_reply=one.incumbent_reply, incumbent_reply=one.candidate_reply)
    assert printed(question(one, "candidate")) == printed(question(swapped, "incumbent"))


def test_the_end_says_what_happens_next() -> None:
    assert "there is nothing to label" in farewell(Progress(0, 0, 0, 0, Agreement(), Agreement()))
    assert "come back in ten minutes" in farewell(PROGRESS)
    done = farewell(replace(PROGRESS, left=0))
    assert "33 labels are wanted from others" in done
    assert "`trimtab candidates`" in done
    assert "wanted" not in farewell(replace(PROGRESS, left=0, given=40))


def test_the_keys_are_named_on_every_screen() -> None:
    assert " ".join(KEYS.split()) in " ".join(printed(ASKED, width=40).split())
