"""The account of a replay: what became of every event, what was learned, what the gate says, and what to type next."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from rich.console import Console
from rich.table import Table

from deploy.replay.closing import print_changes
from deploy.replay.compared import order_numbers
from deploy.replay.intake import Intake
from deploy.rules.names import short
from deploy.text import shown
from feedback.dataset.snapshot import Snapshot

BAR = 24


def account(
    intake: Intake,
    sealed: Snapshot,
    seconds: Mapping[str, float],
    candidate: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The document of `trimtab replay --json`. `candidate` is what `trimtab show --json` says of it; None: not trained."""
    counts = sealed.counts
    document: dict[str, Any] = {
        "events": intake.events,
        "turns": intake.turns,
        "ratings": dict(intake.ratings),
        "duplicates": intake.duplicates,
        "replaced_surrogates": intake.replaced_surrogates,
        "dead_letters": dict(intake.dead_letters),
        "orphan_ratings": counts.orphan_ratings,
        "too_old_ratings": counts.too_old_ratings,
        "judged": counts.judged,
        "unjudged": dict(counts.unjudged),
        "pairs": dict(counts.pairs),
        "unpaired": dict(counts.unpaired),
        "demonstrations": counts.demonstrations,
        "conversation_ratings": dict(counts.conversation_ratings),
        "untrainable": dict(counts.untrainable),
        "snapshot": sealed.name,
        "dataset_hash": sealed.dataset_hash,
    }
    if candidate is not None:
        reward = candidate["report"]["reward_model"]
        document["reward_model"] = {key: reward[key] for key in REWARD_MODEL if key in reward}
        document["candidate"] = candidate["digest"]
        document["base"] = candidate["report"]["base"]["name"]
        document["gate"] = candidate["gate"]
        document["order_numbers"] = to_builtins(order_numbers(candidate["report"]["samples"]))
    document["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    document["peak_memory_bytes"] = peak_memory_bytes()
    return document


REWARD_MODEL = (
    "accuracy",
    "interval",
    "holdout",
    "metric",
    "majority_baseline",
    "calibration_error",
    "length_correlation",
)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process or of a child of it that ended."""
    children = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return max(children, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # not ru_maxrss: on Linux that begins with the size of whoever started us
    ours = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return max(children, 1024 * ours)


def print_account(console: Console, document: Mapping[str, Any], candidate: Mapping[str, Any] | None) -> None:
    """The same for a person, on one screen."""
    seconds = document["seconds"]
    ratings = sum(document["ratings"].values())
    dead = sum(document["dead_letters"].values())
    console.print(
        f"[bold]{document['events']:,} events[/bold] in {seconds['ingest']:.1f} s: {document['turns']:,} turns, "
        f"{ratings:,} ratings, {document['duplicates']:,} duplicates, {dead:,} dead letters"
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_row("ratings", _bars(document["ratings"]))
    if dead:
        table.add_row("dead letters", _bars(document["dead_letters"]))
    if document["replaced_surrogates"]:
        held = f"{document['replaced_surrogates']:,} events held halves of surrogate pairs: U+FFFD stands for each"
        table.add_row("replaced", held)
    table.add_row("judge", f"{document['judged']:,} judged; unjudged: {_listed(document['unjudged'])}")
    table.add_row("orphan ratings", f"{document['orphan_ratings']:,}")
    if document["too_old_ratings"]:
        table.add_row("ratings of turns older than the window", f"{document['too_old_ratings']:,}")
    console.print(table)
    console.print(
        f"[bold]Snapshot[/bold] {document['snapshot']} in {seconds['seal']:.1f} s  {document['dataset_hash']}"
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_row("pairs", _bars(document["pairs"]))
    table.add_row("unpaired labels", _bars(document["unpaired"]))
    table.add_row("demonstrations", f"{document['demonstrations']:,}")
    if document["conversation_ratings"]:
        table.add_row("train nothing", f"{_listed(document['conversation_ratings'])}, of whole conversations")
    if document["untrainable"]:
        table.add_row("can't be learned from", _listed(document["untrainable"]))
    console.print(table)
    if candidate is not None:
        _print_candidate(console, document, candidate)
    memory = document["peak_memory_bytes"] / 1e6
    console.print(f"peak memory {memory:,.0f} MB", style="dim")


def _print_candidate(console: Console, document: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    console.print(f"[bold]Reward model[/bold] {_told(document['reward_model'])}", highlight=False, markup=True)
    console.print(f"[bold]Candidate[/bold] {short(candidate['digest'])} in {document['seconds']['train']:.0f} s")
    console.print(f"[bold]Gate: {candidate['gate']['decision']}[/bold]")
    for reason in candidate["gate"]["reasons"]:
        console.print(f"  {shown(reason)}")
    print_changes(console, candidate["report"])


def _told(reward: Mapping[str, Any]) -> str:
    """How good the reward model is; unknown where there was no label to hold it against."""
    if reward["accuracy"] is None:
        return "accuracy unknown: no label is in the gate split"
    low, high = reward["interval"]
    return (
        f"accuracy {reward['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {reward['holdout']:,} "
        f"gate-split {reward['metric']} (always the majority: {reward['majority_baseline']:.3f})"
    )


def _bars(figures: Mapping[str, int]) -> str:
    if not figures:
        return "none"
    most = max(figures.values())
    ordered = sorted(figures.items(), key=lambda item: (-item[1], item[0]))
    return "\n".join(f"{shown(name):<14} {value:>7,} {'▇' * round(BAR * value / most)}" for name, value in ordered)


def _listed(figures: Mapping[str, int]) -> str:
    return ", ".join(f"{value:,} {shown(name)}" for name, value in sorted(figures.items())) or "none"
