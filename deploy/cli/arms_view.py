"""A rollout's arms side by side on a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from deploy.decisions.views import mismatched
from deploy.rules.names import percent
from deploy.text import shown

SENTENCES = {
    "rollback": "harm: the controller rolls back",
    "hold": "on hold: a person has to look",
    "pause": "a signal pauses it",
    "wait": "not yet",
    "advance": "ready for the next share",
    "promote": "ready for everybody",
}
"""By what is to be done."""
MISMATCH = (
    "waiting mends no sample ratio, for who came otherwise than drawn stays counted: find what lies between the draw and the count "
    "(docs/operations/alerts.md, TrimtabSampleRatioMismatch), roll back, and begin anew"
)
"""What to do where users did not come as they were drawn."""


def verdict_lines(look: dict[str, Any]) -> Iterable[str]:
    """What the controller saw last, in a sentence or two, and how many units that rests on."""
    yield f"{SENTENCES.get(look['action'], look['action'])}: {'; '.join(look['reasons'])}"
    if mismatched(look):
        yield MISMATCH
    if look["metrics"]:
        said = [f"{arm} {look['units'][arm]:,} ({look['closed'][arm]:,} closed)" for arm in ("candidate", "incumbent")]
        late = f"; {look['late']:,} events came too late to count" if look["late"] else ""
        yield f"units: {', '.join(said)}, looked at {look['at']}{late}"
    yield from _beside(look)


def _beside(look: dict[str, Any]) -> Iterable[str]:
    """What is to be expected, how long replies took, and the shares so far; nothing of what was not known when it was looked."""
    if said := look.get("outlook", {}).get("said"):
        yield said
    took = {arm: ms for arm, ms in look.get("latency_ms", {}).items() if ms is not None}
    if took:
        arms = [f"{arm} {ms['median']:,.0f} ms ({ms['p95']:,.0f} ms)" for arm, ms in took.items()]
        yield f"half of the replies (95%) took at most: {', '.join(arms)}"
    if periods := look.get("periods"):
        said = (f"{'halted' if one['halted'] else percent(one['share'])} since {one['since'][:16]}" for one in periods)
        yield f"shares: {', '.join(said)}"


def arms_table(look: dict[str, Any]) -> Table:
    """Every look for harm: users with a bad outcome of those whose window is over, and how sure the difference is."""
    table = Table("of users", "after", "group", "candidate", "incumbent", "difference", "harm, needed")
    for row in look["metrics"]:
        low, high = row["difference"]
        table.add_row(
            row["metric"],
            f"{row['age_h']:g} h",
            shown(row["slice"] or "all"),
            *(_part(row["bad"][arm], row["of"][arm]) for arm in ("candidate", "incumbent")),
            f"{low:+.1%} to {high:+.1%}" if high - low < 1.9 else "unknown",
            f"{_odds(row['log_evidence_of_harm'])}, {_odds(row['log_evidence_needed'])}",
        )
    return table


def _part(bad: int, of: int) -> str:
    return f"{bad:,} of {of:,} ({bad / of:.1%})" if of else "none yet"


def _odds(log_e: float) -> str:
    """As odds against there being no harm: 1 is nothing known either way."""
    return f"{math.exp(min(log_e, 20)):,.3g}"
