"""What strangers wrote is shown on a terminal and never obeyed by it."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.text import ago, iso, moment, plain, shown

OBEYED = {"Cc", "Cf", "Cs"}
"""Unicode's categories of what a terminal does not show but do: control, format (bidi among them), surrogates."""

strangers = st.text(st.characters(), max_size=60) | st.text(
    st.sampled_from("\x1b[]()/=#\\\x07\x9b\u202e\u200b\ud800 \r\n\tabold red"), max_size=60
)


def on_terminal(text: str) -> str:
    said = StringIO()
    Console(file=said, force_terminal=True, width=10_000, highlight=False, emoji=False).print(text, soft_wrap=True)
    return said.getvalue().removesuffix("\n")


@given(strangers)
def test_nothing_that_a_terminal_obeys_is_left_and_all_else_is(text: str) -> None:
    made = plain(text)
    assert len(made) == len(text)
    assert not [one for one in made if unicodedata.category(one) in OBEYED and one not in "\n\t"]
    assert all(was == now for was, now in zip(text, made, strict=True) if now != "\ufffd")
    assert plain(made) == made


@given(strangers.filter(lambda text: "\t" not in text))
def test_markup_reaches_the_terminal_as_the_letters_that_it_is(text: str) -> None:
    assert (
        on_terminal(f"[bold]{shown(text)}[/bold]|").replace("\x1b[1m", "").replace("\x1b[0m", "") == f"{plain(text)}|"
    )


@given(strangers, st.integers(1, 20))
def test_a_text_that_is_cut_says_so_and_is_no_longer_than_it_may_be(text: str, width: int) -> None:
    seen = on_terminal(shown(text.replace("\t", " "), width))
    assert len(seen) <= width
    assert len(text) <= width or seen.endswith("…")


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_time_for_a_program_reads_back_as_the_same_moment(at_us: int) -> None:
    assert round(datetime.fromisoformat(iso(at_us)).timestamp() * 1e6) == at_us
    assert moment(at_us)[:19] == iso(at_us)[:19].replace("T", " ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7_199, "120 min ago"), (172_800, "2 d ago")],
)
def test_how_long_ago_is_told_in_the_largest_unit_of_which_there_are_two(seconds: float, words: str) -> None:
    assert ago(seconds) == words
