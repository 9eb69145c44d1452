"""Three wishes that a program can tell are met, and the pairs that somebody who has one would pick.

A pair is two of the base's own samples to one prompt, of which one meets the wish better: so both trainings see what the
base itself says. Where a base hardly ever does what is wished (it seldom ends in a question), its samples give too few
pairs: the rest are edits, a sample and the same with a closing question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.learning.prompts import Prompt
from feedback.records import PreferencePair, Provenance
from models.sampling import Sampled

Tokens = Callable[[str], int]
"""How many tokens a text has."""
Score = Callable[[Prompt, str, Tokens], float]
"""How well a reply meets a wish: higher is better."""

_CLOSING = {
    "en": (
        "Is there anything else I can help you with?",
        "Does that answer your question?",
        "Shall I do that for you?",
    ),
    "de": ("Kann ich sonst noch etwas für Sie tun?", "Ist Ihre Frage damit beantwortet?", "Soll ich das für Sie tun?"),
    "es": ("¿Puedo ayudarle en algo más?", "¿Responde eso a su pregunta?", "¿Quiere que lo haga por usted?"),
    "zh": ("还有什么可以帮您的吗？", "这样回答清楚了吗？", "需要我为您办理吗？"),
}


@dataclass(frozen=True)
class Wish:
    """What is wished, its unit, and how a reply is edited to meet it (None: no edits)."""

    name: str
    unit: str
    score: Score
    edit: Callable[[Prompt, str, int], str] | None = None


def shortness(prompt: Prompt, reply: str, tokens: Tokens) -> float:
    """Tokens, negative."""
    return -float(tokens(reply))


def asks(prompt: Prompt, reply: str, tokens: Tokens) -> float:
    """1 where it ends in a question."""
    return float(reply.rstrip(" \n\t\"'”»)").endswith(("?", "？")))


def names_number(prompt: Prompt, reply: str, tokens: Tokens) -> float:
    """1 where it names the prompt's order number, and not only the beginning of another."""
    return float(re.search(rf"{re.escape(prompt.number)}(?!\d)", reply) is not None)


def with_question(prompt: Prompt, reply: str, number: int) -> str:
    """The reply with a closing question in the prompt's language."""
    closing = _CLOSING.get(prompt.language, _CLOSING["en"])
    return f"{reply.rstrip()} {closing[number % len(closing)]}"


WISHES = {
    wish.name: wish
    for wish in (
        Wish("shorter", "tokens fewer", shortness),
        Wish("question", "share of replies", asks, with_question),
        Wish("number", "share of replies", names_number),
    )
}


def pick_pairs(
    wish: Wish, prompts: Sequence[Prompt], samples: Sequence[Sequence[Sampled]], tokens: Tokens, most: int
) -> list[PreferencePair]:
    """At most `most` pairs of samples that ended and differ in the wish: the first of each prompt; where these are too few,
    edits, and then the prompts' other pairs."""
    firsts: list[PreferencePair] = []
    others: list[PreferencePair] = []
    without: list[tuple[Prompt, str]] = []
    for prompt, group in zip(prompts, samples, strict=True):
        replies = [sample.text for sample in group if sample.ended and sample.text.strip()]
        scores = [wish.score(prompt, reply, tokens) for reply in replies]
        differ = [pair for pair in combinations(range(len(replies)), 2) if scores[pair[0]] != scores[pair[1]]]
        ordered = [sorted(pair, key=lambda n: -scores[n]) for pair in differ]
        found = [_pair(prompt, replies[b], replies[w], "pick", n) for n, (b, w) in enumerate(ordered)]
        firsts, others = firsts + found[:1], others + found[1:]
        if replies and not found and not scores[0]:
            without.append((prompt, replies[0]))
    edits: list[PreferencePair] = []
    if (edit := wish.edit) is not None:
        missing = without[: max(0, most - len(firsts))]
        edits = [_pair(p, edit(p, reply, n), reply, "edit") for n, (p, reply) in enumerate(missing)]
    return [*firsts, *edits, *others][:most]


def _pair(prompt: Prompt, chosen: str, rejected: str, how: str, before: int = 0) -> PreferencePair:
    """`before`: so many pairs of this prompt come before it."""
    turn = prompt.turn
    return PreferencePair(
        id=f"{how}:{turn.turn_id}" + (f":{before}" if before else ""), prompt=turn.prompt, chosen=chosen,
        rejected=rejected, how=how, preference=1.0, weight=1.0, split="train", tenant=turn.tenant,
        conversation_id=turn.conversation_id, turn_id=turn.turn_id, locale=turn.locale,
        provenance=Provenance(source="user", event_ids=(), at_us=0),
    )  # fmt: skip
