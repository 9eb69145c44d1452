"""The last screen: readable on any terminal, without colour, whatever was written."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from deploy.replay.closing import print_changes
from tests.deploy.replay.test_compared import SMOL, TINY, sample

LONG = "order " * 100
QUESTION = "Where is my order K-{}? I have been waiting for it since Tuesday."


def printed(samples: list[Any], width: int = 100, base: str = SMOL, **more: Any) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_changes(console, {"samples": samples, "base": {"name": base}, "incumbent": None} | more)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [30, 63, 64, 80, 200])
def test_it_wraps_to_the_width_of_the_terminal_and_names_both_sides(width: int) -> None:
    told = printed([sample(QUESTION.format(10), LONG, "在哪里？" * 60), sample("¿K-11?", locale="es")], width)
    assert max(map(cell_len, told.splitlines())) <= width
    for part in ("someone wrote", "incumbent", "candidate", "…"):
        assert part in told
    assert "\x1b" not in told


def test_in_a_file_no_line_is_filled_up_to_ten_thousand_columns() -> None:
    assert max(map(cell_len, printed([sample("Where is K-10?", "Soon.", "On Friday.")], 10_000).splitlines())) < 200


def test_replies_stand_beside_each_other_and_all_of_them_are_counted() -> None:
    samples = [sample(QUESTION.format(n), f"K-{n} is on its way. [K-{n}]", "Which order?") for n in range(10, 30)]
    told = printed([*samples, sample("¿K-77?", "K-77", "", "es"), sample("K-78?", "no", "K-78", "de-DE")])
    assert told.count("Which order?") == 3
    assert "22 gate prompts, in all languages, name an order. Replies that name its number:" in told
    assert "candidate   21 of 22 = 95% (95%: 78% to 99%)" in told
    assert "incumbent    1 of 22 = 5% (95%: 1% to 22%)" in told
    assert "German and Spanish are beyond this base" in told


def test_a_reply_that_was_cut_at_the_limit_of_samples_ends_in_an_ellipsis() -> None:
    told = printed([sample("Hello", "Good evening", "Who is") | {"candidate_ended": False, "incumbent_ended": True}])
    assert "Good evening …" in told
    assert "Who is …" not in told


def test_without_an_order_number_nothing_is_counted_and_without_samples_nothing_is_shown() -> None:
    told = printed([sample("Hello there", "Hi.", "")])
    assert "(nothing)" in told
    assert "order" not in told
    assert printed([]) == ""


def test_tiny_says_what_it_is_for_and_an_incumbent_is_named() -> None:
    told = printed([sample("¿K-77?", "K-77", "", "es")], base=TINY, incumbent="ab" * 32)
    assert "`tiny` is the small model for tests" in told
    assert "beyond this base" not in told
    assert "incumbent ababab" in told
    assert "for tests" not in printed([sample("Hello")], base="tiny-llama")
