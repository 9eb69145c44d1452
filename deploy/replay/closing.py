"""The last screen of a replay that trained: what the adapter changed, side by side and counted. Wraps to the terminal's width."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deploy.replay.compared import (
    OrderNumbers,
    Sample,
    Share,
    chosen,
    order_numbers,
    question,
    unknown_languages,
)
from deploy.rules.names import short
from deploy.text import shown
from models.bases import TINY

MOST = 220
"""Characters of one text."""
NARROW = 64
"""Columns below which replies stand below one another."""
_TEST_BASE = re.compile(f"{TINY}-[0-9a-f]{{12}}")


def print_changes(console: Console, report: Mapping[str, Any]) -> None:
    """Print what became of the gate prompts of a report."""
    samples, base = report["samples"], report["base"]["name"]
    incumbent = f"incumbent {short(report['incumbent'])}" if report["incumbent"] else "incumbent (no adapter)"
    if rows := chosen(samples, base):
        console.print(f"\n[bold]What changed[/bold] on {base}: gate prompts chosen by a hash, never by the replies")
        (_below if console.width < NARROW else _beside)(console, rows, shown(incumbent))
    if (numbers := order_numbers(samples)) is not None:
        for line in _counted(numbers):
            console.print(line, highlight=False)
    if beyond := unknown_languages(samples, base):
        console.print(f"{_listed(beyond)} {'are' if len(beyond) > 1 else 'is'} beyond this base: what it says there means "
                      f"little, before and after.")  # fmt: skip
    if _TEST_BASE.fullmatch(base):
        console.print(FOR_TESTS)


FOR_TESTS = (
    "`tiny` is the small model for tests: it shows that the loop turns, not what can be learned. A real chat model is "
    "SmolLM2 (`trimtab replay --base smollm2 …`)."
)


def _beside(console: Console, rows: Sequence[Sample], incumbent: str) -> None:
    table = Table(box=box.HORIZONTALS, expand=console.is_terminal, show_lines=True)
    for title in ("someone wrote", incumbent, "candidate"):
        table.add_column(title, ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*_texts(row))
    console.print(table)


def _below(console: Console, rows: Sequence[Sample], incumbent: str) -> None:
    for row in rows:
        for title, text in zip(("someone wrote", incumbent, "candidate"), _texts(row), strict=True):
            console.print(f"[bold]{title}[/bold]: {text}", overflow="fold")
        console.print()


def _texts(sample: Sample) -> tuple[str, str, str]:
    ended = (True, sample.get("incumbent_ended", True), sample.get("candidate_ended", True))
    texts = (question(sample["prompt"]), sample["incumbent"], sample["candidate"])
    asked, before, after = (_text(text, whole) for text, whole in zip(texts, ended, strict=True))
    return asked, before, after


def _text(text: str, whole: bool) -> str:
    """In one paragraph; an ellipsis stands where it was cut, here or at the limit of samples."""
    one_line = " ".join(text.split())
    return shown(one_line if whole else f"{one_line} …", MOST) or "(nothing)"


def _counted(numbers: OrderNumbers) -> Sequence[str]:
    if numbers.prompts == 1:
        heading = "One gate prompt names an order; is its number in the reply?"
    else:
        heading = f"{numbers.prompts} gate prompts, in all languages, name an order. Replies that name its number:"
    return (heading, f"  incumbent  {_share(numbers.incumbent, numbers)}", f"  candidate  {_share(numbers.candidate, numbers)}")  # fmt: skip


def _share(share: Share, numbers: OrderNumbers) -> str:
    low, high = share.interval
    return f"{share.named:>3} of {numbers.prompts} = {share.share:.0%} (95%: {low:.0%} to {high:.0%})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
