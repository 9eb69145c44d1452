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
    "may_be_chance",
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
    "too_few_comparisons": "{count} blind comparisons of {needed} needed: hold",
    "wins": "win rate {win_rate:.2f}, lower bound {bound:.3f} > {floor:.2f}, n={count}",
    "loses": "win rate {win_rate:.2f}, upper bound {bound:.3f} < {floor:.2f}, n={count}",
    "may_be_chance": "win rate {win_rate:.2f}, lower bound {bound:.3f} ≤ {floor:.2f}, n={count}: hold",
    "rolled_back": "it was rolled back before ({times} times): hold",
    "few_gate_labels": "{few} (this decides nothing)",
}


def sentence(reason: Reason) -> str:
    """The reason for a person at 3 a.m.

    >>> sentence(Reason("too_few_comparisons", {"count": 0, "needed": 200}))
    '0 blind comparisons of 200 needed: hold'
    """
    figures = reason.figures
    match reason.code:
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


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def sentences(reasons: Iterable[Reason]) -> list[str]:
    """Each of them."""
    return [sentence(reason) for reason in reasons]


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
