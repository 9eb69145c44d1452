"""Why the gate decided as it did, as data: a code to compare by and the figures. The sentence is made when it is shown.

Figures move with every label that comes in; codes say when that matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from deploy.rules.names import policy_name

Code = Literal[
    "not_finite",
    "unreadable_report",
    "report_changed",
    "no_op",
    "empty",
    "too_long",
    "too_short",
    "length_unknown",
    "unended",
    "repetition",
    "language",
    "retention_kl",
    "retention_facts",
    "other_incumbent",
    "no_samples",
    "incumbent_empty",
    "language_unknown",
    "too_few_comparisons",
    "wins",
    "loses",
    "leaked_labels",
    "lineage_unknown",
    "rolled_back",
    "few_gate_labels",
]

MAX_NAMED = 5
"""Numbers or facts that are named in one reason; the rest are counted."""


class Reason(Struct, frozen=True):
    """One reason. `figures` are JSON values, named as the sentences of SENTENCES want them."""

    code: Code
    figures: dict[str, Any] = {}


SENTENCES: Mapping[Code, str] = {
    "not_finite": "not finite: {named}",
    "unreadable_report": "the report can't be judged: {error}",
    "report_changed": "report.json was changed after the candidate was registered",
    "no_op": "no-op: the adapter moves no probe by more than {largest:.2g} nats per token (floor {floor:.2g})",
    "empty": "empty: every sampled reply is empty",
    "too_long": "length: sampled replies are {least}{ratio:.1f} times longer than the incumbent's ({candidate:.0f} and "
    "{incumbent:.0f} tokens{cut}; limit {limit:g} times)",
    "too_short": "length: sampled replies are {least}{ratio:.1f} times shorter than the incumbent's ({candidate:.0f} and "
    "{incumbent:.0f} tokens{cut}; limit {limit:g} times)",
    "length_unknown": "length: {candidate} of {candidate_of} sampled replies were cut at their limit, and {incumbent} of "
    "{incumbent_of} of the incumbent's, so lengths can't be compared (raise policy.sample_tokens): hold",
    "unended": "length: {candidate} of {candidate_of} sampled replies had not ended at their limit, and {incumbent} of "
    "{incumbent_of} of the incumbent's (largest rise {limit:.0%}): hold",
    "repetition": "repetition: {share:.2f} of the word 3-grams in sampled replies repeat (limit {limit:.2f})",
    "language": "language: {candidate:.0%} of sampled replies are in the prompt's language, the incumbent's "
    "{incumbent:.0%} (largest drop {limit:.0%})",
    "retention_kl": "retention: on {prompts} prompts it is {kl:.2f} nats a token away from the base (limit {limit:g}): hold",
    "retention_facts": "retention: of {of} fixed questions that the base answers rightly it lost {named}, and gained "
    "{gained} (limit {limit} more lost than gained): hold",
    "other_incumbent": "the report compares with {compared}, but {serves} serves now: hold",
    "no_samples": "no sampled replies to look at (the gate split has no prompts yet): hold",
    "incumbent_empty": "the incumbent's sampled replies are all empty, so there is no length to compare with: hold",
    "language_unknown": "the language of the sampled replies can't be told, the incumbent's can: hold",
    "too_few_comparisons": "blind comparisons: {said}{waits}{more}: hold",
    "wins": "blind comparisons: {said}",
    "loses": "blind comparisons: {said_against}",
    "leaked_labels": "leaked labels: it was trained on {count} of the turns that people or the judge compared ({named})",
    "lineage_unknown": "nobody can say on which turns it was trained, so labels may have leaked: {why}: hold",
    "rolled_back": "it was rolled back before ({times} times): hold",
    "few_gate_labels": "{few} (this decides nothing)",
}


HOW_TO_COMPARE = "a training compares it on prompts of the gate split, and shadowing on live ones"


def sentence(reason: Reason) -> str:
    """The reason for a person at 3 a.m.

    >>> sentence(Reason("rolled_back", {"times": 2}))
    'it was rolled back before (2 times): hold'
    """
    figures = reason.figures
    match reason.code:
        case "too_few_comparisons" if (
            "needed" in figures and "count" in figures
        ):  # a seal of before evidence was counted
            return "{count} blind comparisons of {needed} needed: hold".format(**figures)
        case "too_few_comparisons" | "wins" | "loses":
            figures = _compared(figures)
        case "leaked_labels":
            figures = {"count": len(figures["turns"]), "named": _named(figures["turns"])}
        case "other_incumbent":
            figures = {name: policy_name(digest) for name, digest in figures.items()}
        case "not_finite":
            figures = {"named": _named(figures["names"])}
        case "retention_facts":
            figures = figures | {"named": f"{len(figures['lost'])} ({_named(figures['lost'])})"}
        case "too_long" | "too_short":
            cut = (
                "; medians, {} and {} replies were cut at their limit".format(*figures["cut"])
                if "cut" in figures
                else ""
            )
            figures = figures | {"least": "at least " if figures.get("at_least") else "", "cut": cut}
        case "rolled_back" if figures["times"] == 1:
            return "it was rolled back before (once): hold"
    return SENTENCES[reason.code].format(**figures)


def _compared(figures: Mapping[str, Any]) -> dict[str, str]:
    """What was said of the pairs so far, who still has to speak, and what would do."""
    if not figures["pairs"]:
        return {"said": f"none yet ({HOW_TO_COMPARE})", "waits": "", "more": ""}
    people = figures["wins"] + figures["ties"] + figures["losses"]
    rate = f"win rate {figures['win_rate']:.2f} by people on {people}, " if people else ""
    of = f"{rate}{figures['counted']} of {figures['pairs']} pairs count"
    second = figures.get("wait_second", 0)  # of before nobody counted them
    whom = f"; {second} for a second person" * (second > 0)
    waiting = [f"{figures['wait_people']} wait for people (`trimtab label`{whom})"] * (figures["wait_people"] > 0)
    waiting += [f"{figures['wait_judge']} wait for the judge"] * (figures["wait_judge"] > 0)
    more = figures["missing"]
    return {
        "said": f"{of}, E {figures['e']:.3g} of {figures['needed']:.3g} that it takes",
        "said_against": f"{of}, E that people prefer the incumbent {figures['e_loses']:.3g}",
        "waits": "".join(f", {who}" for who in waiting),
        "more": "" if more is None else f", about {more} more pairs like these would do",
    }


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def sentences(reasons: Iterable[Reason]) -> list[str]:
    """Each of them."""
    return [sentence(reason) for reason in reasons]


COMPARED: frozenset[Code] = frozenset({"wins", "loses", "too_few_comparisons"})
"""Of these the gate gives one: its figures are those of the comparisons."""


def codes(reasons: Iterable[Reason]) -> frozenset[Code]:
    """What an approval stands and falls with."""
    return frozenset(reason.code for reason in reasons)


def in_short(reasons: Sequence[Reason]) -> str:
    """The first one, and how many more there are."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{sentence(reasons[0])}{more}" if reasons else "no reason was given"


def as_json(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    """As JSON values, for a seal."""
    values: list[dict[str, Any]] = msgspec.to_builtins(list(reasons))
    return values


def from_json(values: Any) -> tuple[Reason, ...]:
    """The reasons of a seal."""
    return msgspec.convert(values, tuple[Reason, ...])
