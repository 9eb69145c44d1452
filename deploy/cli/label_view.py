"""A pair on a terminal: how far all is, what was asked, both replies, and the keys. Nothing tells which reply is the candidate's."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from deploy.rules.labelling import Progress, Question
from deploy.text import plain
from feedback.content import spoken
from feedback.records import Message

KEYS = "1 first is better  2 second  0 no difference  e give a reason  s skip  a show all  q quit"
SIDE_BY_SIDE = 100
"""Columns from which on the replies stand beside each other."""

TURNS, TURN_LINES = 3, 4
"""So much of the conversation is shown at once: its last messages, so many lines of each."""

MORE = "… a shows all"
FEWEST_LINES, OTHER_LINES = 6, 20
"""Of a reply at least so many lines are shown; so many lines of a screen are for all the rest."""


def print_pair(console: Console, pair: Question, progress: Progress, whole: bool) -> None:
    """Print the pair for whoever labels it: as much as a screen holds, or all of it."""
    whole = whole or not console.is_terminal
    wide = console.is_terminal and console.width >= SIDE_BY_SIDE
    width = (console.width - 7) // 2 if wide else console.width
    room = max(FEWEST_LINES, (console.height - OTHER_LINES) // (1 if wide else 2))
    lines = None if whole else room
    console.print(Text(headline(progress), style="dim"), soft_wrap=True)
    language = f" ({plain(pair.locale)})" if pair.locale else ""
    console.print(
        Rule(Text(f"pair {pair.id[:8]}{language}"), align="left") if console.is_terminal else f"pair {pair.id[:8]}"
    )
    for one in _turns(console, pair.prompt, whole):
        console.print(one)
    first, second = (_cut(console, reply, width, lines) for reply in (pair.first, pair.second))
    if wide:
        table = Table("1", "2", expand=True, show_lines=True)
        for column in table.columns:
            column.ratio = 1
        table.add_row(first, second)
        console.print(table)
    else:
        for number, reply in (("1", first), ("2", second)):
            console.print(Text(f"── {number} ──", style="bold"))
            console.print(reply)
    console.print(Text(KEYS, style="bold"))


def headline(progress: Progress) -> str:
    """How far this person and all together are, and how much they agree."""
    said = [f"{progress.labelled} labelled by you", f"{progress.given} of {progress.wanted} labels in all"]
    for who, both in (("others", progress.with_people), ("the judge", progress.with_judge)):
        if both.pairs:
            said.append(f"the same as {who} on {both.agreed} of {both.pairs} pairs")
    return " · ".join(said)


def farewell(progress: Progress) -> str:
    """Why nothing is asked, and what happens next."""
    if progress.wanted == 0:
        return (
            "there is nothing to label: no candidate that waits for a decision has pairs about which people are asked. "
            "`trimtab candidates` lists the candidates"
        )
    if progress.left:
        return f"others are looking at the last {progress.left} pairs: come back in ten minutes"
    missing = progress.wanted - progress.given
    others = f"; {missing} labels are wanted from others" if missing else ""
    return f"nothing is left for you{others}. The gate counts the labels by itself: `trimtab candidates` says what it finds"


def _turns(console: Console, prompt: list[Message], whole: bool) -> list[RenderableType]:
    """The last messages of the conversation, or all of them."""
    told = prompt if whole else prompt[-TURNS:]
    found: list[RenderableType] = []
    if (hidden := len(prompt) - len(told)) > 0:
        found.append(Text(f"{hidden} earlier messages {MORE}", style="dim"))
    for message in told:
        role = plain(str(message.get("role", "?")))
        text = _cut(console, spoken(message) or "(no text)", console.width - 2, None if whole else TURN_LINES)
        found.append(Group(Text(role, style="bold"), Padding(text, (0, 0, 0, 2), expand=False)))
    return found


def _cut(console: Console, text: str, width: int, most: int | None) -> Text:
    """What somebody wrote, harmless, in at most so many lines of this width; what is left out is said."""
    if most is None:
        return _harmless(text)
    room = width * most
    shown = _harmless(text[:room])
    lines = shown.wrap(console, width)
    if len(lines) <= most and len(text) <= room:
        return shown
    return Text("\n").join(lines[: most - 1]).append(f"\n{MORE}", style="dim")


def _harmless(text: str) -> Text:
    return Text(plain(text).expandtabs(4) or "(empty)")
