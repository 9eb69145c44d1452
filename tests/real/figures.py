"""What a run of the loop came to, as JSON values and as tables, from the reports that its trainings wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.rules.names import short
from tests.real.customers import RULE, Arm
from tests.real.phases import Phase, gigabytes


def of_candidate(view: Mapping[str, Any]) -> dict[str, Any]:
    """What the tables say of one, out of `trimtab show --json`."""
    report, retention = view["report"], view["report"]["retention"]
    facts = retention["facts"]
    return {
        "digest": view["digest"],
        "snapshot": view["snapshot"],
        "base": report["base"]["name"],
        "gate": {"decision": view["gate"]["decision"], "reasons": view["gate"]["reasons"]},
        "reward_model": {key: report["reward_model"][key] for key in REWARD},
        "compared_with": report["incumbent"] or "base",
        "lengths": {side: {key: report["sample_stats"][of][key] for key in LENGTH} for side, of in SIDES.items()},
        "kl": {"gate_prompts": retention["gate_kl"], "neutral_questions": retention["neutral_kl"]},
        "facts": {key: facts[key] for key in ("asked", "base_right", "candidate_right", "lost", "gained")},
        "training": {"seconds": report["seconds"], "peak_bytes": report["peak_memory_bytes"]},
    }


REWARD = ("metric", "accuracy", "interval", "holdout", "majority_baseline")
LENGTH = ("mean_tokens", "count", "cut")
SIDES = {"candidate": "candidate", "base": "incumbent"}
"""No incumbent serves when either is trained: the report's "incumbent" is the bare base."""


def print_arms(console: Console, arms: Sequence[Arm], tokens_per_s: float) -> None:
    """Who answered, and how it was rated."""
    table = Table("answered by", "customers", "turns", "thumbs up", "95% interval", "tokens/s of a reply", box=None)
    for arm in arms:
        low, high = arm.interval
        share = f"{arm.up} = {arm.up / arm.turns:.0%}"
        who = arm.by if arm.by == "base" else f"candidate {short(arm.by)}"
        figures = (f"{arm.customers}", f"{arm.turns}", share, f"{low:.0%} to {high:.0%}", f"{arm.tokens_per_s:.1f}")
        table.add_row(who, *figures)
    console.print(table)
    console.print(f"rated by rule: {RULE}. All together {tokens_per_s:.1f} tokens/s.", soft_wrap=True)


def print_candidates(console: Console, candidates: Sequence[Mapping[str, Any]]) -> None:
    """What the reports say, side by side."""
    table = Table("", *(f"candidate {short(one['digest'])}" for one in candidates), box=None)
    for name, of in ROWS.items():
        table.add_row(name, *(of(one) for one in candidates))
    console.print(table)


def print_phases(console: Console, phases: Sequence[Phase], seconds: float, allowed_s: float) -> None:
    """Time and memory."""
    table = Table("phase", "seconds", "most memory", box=None)
    for phase in phases:
        table.add_row(phase.name, f"{phase.seconds:.0f}", gigabytes(phase.peak_bytes))
    console.print(table)
    console.print(f"all of it: {seconds / 60:.1f} minutes; {allowed_s / 60:.0f} are allowed on two cores")


def _reward(one: Mapping[str, Any]) -> str:
    quality = one["reward_model"]
    if quality["accuracy"] is None:
        return "unknown"
    low, high = quality["interval"]
    return f"{quality['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {quality['holdout']} {quality['metric']}"


def _majority(one: Mapping[str, Any]) -> str:
    return _number(one["reward_model"]["majority_baseline"], 3)


def _length(one: Mapping[str, Any], side: str) -> str:
    length = one["lengths"][side]
    cut = f", {length['cut']} of {length['count']} cut" if length["cut"] else ""
    return f"{'at least ' if cut else ''}{_number(length['mean_tokens'], 1)} tokens{cut}"


def _facts(one: Mapping[str, Any]) -> str:
    facts = one["facts"]
    lost = f", lost: {', '.join(facts['lost'])}" if facts["lost"] else ""
    return f"{facts['candidate_right']} of {facts['asked']}, the base {facts['base_right']}{lost}"


def _seconds(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in one["training"]["seconds"].items())


def _number(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


ROWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "gate": lambda one: one["gate"]["decision"],
    "reward accuracy, 95%": _reward,
    "always the majority": _majority,
    "a reply, candidate": lambda one: _length(one, "candidate"),
    "a reply, base": lambda one: _length(one, "base"),
    "KL from the base, gate prompts": lambda one: f"{_number(one['kl']['gate_prompts'], 3)} nats a token (base: 0)",
    "KL from the base, neutral": lambda one: f"{_number(one['kl']['neutral_questions'], 3)} nats a token (base: 0)",
    "fixed questions right": _facts,
    "training, seconds": _seconds,
    "training's own most memory": lambda one: gigabytes(one["training"]["peak_bytes"]),
}
