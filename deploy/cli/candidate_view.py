"""One candidate on a terminal: what it is, why the gate decided so, its samples beside the incumbent's, what to type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.cli.arms_view import arms_table, verdict_lines
from deploy.cli.shadow import shadow_lines
from deploy.decisions.views import became
from deploy.rules.names import percent
from deploy.text import ago, shown

MAX_SAMPLES = 8
_LOST = {
    "history_cut": "without their oldest messages",
    "system_cut": "with a system message cut",
    "last_message_cut": "with the question cut",
    "replies_cut": "with a reply cut",
    "pairs_dropped": "pairs dropped",
}
WIDTH = 600
"""Most characters of one prompt or reply."""


def print_candidate(console: Console, view: dict[str, Any]) -> None:
    """Print what `Operations.show` answers. Everything from files is shown as text: no markup, no escapes."""
    report = view["report"] or {}
    decision = view["gate"]["decision"] if view["gate"] else "none yet"
    console.print(f"candidate  {view['digest']}", markup=False)
    console.print(f"created    {view['created_at']} from {shown(view['snapshot'])}")
    console.print(f"state      {view['state']}, at stage {view['stage']}, serves {percent(view['share'])}")
    console.print(f"gate       [bold]{decision}[/bold]")
    for reason in view["gate"]["reasons"] if view["gate"] else ():
        console.print(f"           • {shown(reason)}")
    for one in view["objections"]:
        said = f"{one['actor']} ({one['at'][:19]}): {one['reason']}"
        console.print(f"objection  {shown(said, 2_000)}", style="bold red", soft_wrap=True)
    if not report:
        console.print("           its report.json is gone: nothing more is known of it", style="red")
    for line in (*_compared(view["comparisons"]), *_figures(report)):
        console.print(shown(line))
    samples = report.get("samples")
    if isinstance(samples, list) and samples:
        console.print(_samples(samples))
        if len(samples) > MAX_SAMPLES:
            console.print(f"{len(samples) - MAX_SAMPLES} more with --json")
    for line in shadow_lines(view["shadow"]) if view["shadow"] else ():
        console.print(f"shadow     {shown(line, 1_000)}", soft_wrap=True)
    for look in view["looks"]:
        for line in verdict_lines(look):
            console.print(f"rollout    {shown(line, 1_000)}", soft_wrap=True)
        console.print(arms_table(look))
    for event in view["history"]:
        who, what = shown(event["actor"]), became(event)
        console.print(f"{event['at'][:19]}  {who}  {event['action']}: {shown(what)}  {shown(event['reason'], 200)}")
    if view["evidence"] is not None:
        console.print(f"evidence   {view['evidence']} ({ago(view['evidence_age_s'])})", markup=False, soft_wrap=True)
    console.print(f"next: {view['next']}", markup=False, style="bold", soft_wrap=True)


def _compared(told: dict[str, Any]) -> Iterable[str]:
    """What people and the judge said of its pairs with what serves now."""
    if not told["pairs"]:
        return
    yield (
        f"compared   {told['counted']} of {told['pairs']} pairs count: by people {told['wins']} wins, {told['ties']} ties, "
        f"{told['losses']} losses; {told['identical']} were identical"
    )
    agreed = f"; of those that both decided the judge agrees with people on {told['agreed']} of {told['agreed_of']}"
    yield (
        f"           E {told['e']:.3g} of {told['needed']:.3g} that people prefer it, {told['e_loses']:.3g} that they prefer "
        f"the incumbent{agreed * (told['agreed_of'] > 0)}"
    )


def _figures(report: dict[str, Any]) -> Iterable[str]:
    """The report's figures that describe and do not decide."""
    reward = report.get("reward_model")
    if isinstance(reward, dict):
        yield (
            f"reward     accuracy {_number(reward.get('accuracy'))} on {reward.get('holdout')} held-out "
            f"{reward.get('metric')} (95% {_interval(reward.get('interval'))}; always the commoner: "
            f"{_number(reward.get('majority_baseline'))}); it does not decide"
        )
        for kind in ("seen", "unseen"):
            yield from _by_prompt(kind, reward, report.get("sample_stats_by_prompt"))
    yield from _lengths(report.get("lengths"))
    unlearned = report.get("unlearned")
    for one in unlearned if isinstance(unlearned, list) else ():
        yield f"           • {one}"
    yield from _retention(report.get("retention"))
    stats = report.get("sample_stats")
    if isinstance(stats, dict):
        for side in ("candidate", "incumbent"):
            figures = stats.get(side)
            if isinstance(figures, dict):
                cut = figures.get("cut")
                least, hidden = ("at least ", f" ({cut} of {figures.get('count')} were cut)") if cut else ("", "")
                yield (
                    f"{side:<10} {least}{_number(figures.get('mean_tokens'), 1)} tokens a reply{hidden}, repetition "
                    f"{_number(figures.get('repetition'))}, in the prompt's language {_number(figures.get('language_match'))}"
                )


def _by_prompt(kind: str, reward: dict[str, Any], samples: object) -> Iterable[str]:
    """The figures on gate prompts that train has too, or has not; nothing where the report is from before they were told."""
    match reward.get(kind):
        case {"accuracy": accuracy, "interval": interval, "holdout": int(holdout), **rest}:
            which = "train has too" if kind == "seen" else "train has not"
            yield (
                f"{kind:<10} accuracy {_number(accuracy)} on {holdout} held-out labels (95% {_interval(interval)}) whose "
                f"prompts {which}{_sampled(samples.get(kind) if isinstance(samples, dict) else None)}"
            )
            if rest.get("few"):
                yield f"           • {rest['few']}"


def _sampled(sides: object) -> str:
    match sides:
        case {"candidate": {"count": int(count)} as ours, "incumbent": {"mean_tokens": theirs, **rest}}:
            return (
                f"; on {count} sampled ones {_number(ours.get('mean_tokens'), 1)} tokens a reply "
                f"(95% {_interval(ours.get('mean_interval'))}), the incumbent {_number(theirs, 1)} "
                f"({_interval(rest.get('mean_interval'))})"
            )
    return ""


def _retention(told: object) -> Iterable[str]:
    """How far the candidate went from the base, and what it forgot."""
    match told:
        case {"gate_kl": gate, "neutral_kl": neutral, "facts": {"said": str(said)}}:
            yield (
                f"retention  {_number(gate)} nats a token from the base on gate prompts, {_number(neutral)} on neutral "
                f"questions; {said}"
            )


def _lengths(told: object) -> Iterable[str]:
    """How long examples could be, how many were cut, and what could not be learned."""
    match told:
        case {"max_length": length, "cuts": {"train": {"examples": examples, "whole": whole, **lost}}, **rest}:
            named = [f"{lost[key]} {what}" for key, what in _LOST.items() if lost.get(key)]
            yield f"length     {length} tokens: {whole} of {examples} train examples whole" + "".join(
                f", {part}" for part in named
            )
            unlearned = rest.get("not_learned")
            for one in unlearned if isinstance(unlearned, list) else ():
                yield f"           • nothing learned from {one}"


def _samples(samples: list[Any]) -> Table:
    table = Table("prompt", "candidate", "incumbent", show_lines=True)
    for sample in [sample for sample in samples if isinstance(sample, dict)][:MAX_SAMPLES]:
        table.add_row(*(shown(text, WIDTH) for text in (_last(sample.get("prompt")), _text(sample.get("candidate")), _text(sample.get("incumbent")))))  # fmt: skip
    return table


def _last(messages: object) -> str:
    """What the last message says."""
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return _text(messages[-1].get("content"))
    return _text(messages)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _number(value: object, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "unknown"


def _interval(value: object) -> str:
    return "–".join(map(_number, value)) if isinstance(value, list) else "unknown"
