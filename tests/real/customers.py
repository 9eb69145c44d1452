"""Customers of the sample log's shop, by fixed rules: what they ask of which order, and how they rate what is answered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import httpx

from deploy.gateway.chat import ADAPTER_HEADER, BASE
from feedback.statistics.intervals import wilson

OPENINGS = ("", "Hello, ", "Good morning, ", "Hi, it is me again: ")
QUESTIONS = (
    "where is my order {order}?",
    "when will order {order} arrive?",
    "I want to send order {order} back, what do I have to do?",
    "can I still change the address of order {order}?",
    "please cancel order {order}.",
    "I have not been able to pay for order {order}, can you help?",
)
CLOSINGS = ("", " Thank you.", " I have been waiting for a week.", " Please let me know soon.")
RULE = "thumbs up if the reply names the order's number, else thumbs down"
TURNS_EACH = 2
AT_ONCE = 4
REPLY_TOKENS = 128
ANSWER_S = 120.0
CONFIDENCE = 0.975
"""Of each bound: 95% for the interval."""


@dataclass(frozen=True)
class Question:
    """What a customer asks, and the number that a good reply names."""

    user: str
    order: str
    text: str


@dataclass(frozen=True)
class Rated:
    """A question, what came back, and the thumb that it got."""

    question: Question
    turn_id: str
    by: str
    """The adapter's digest, or "base"."""
    reply: str
    tokens: int
    seconds: float

    @property
    def up(self) -> bool:
        """By the RULE."""
        return names(self.reply, self.question.order)


@dataclass(frozen=True)
class Arm:
    """What one policy's customers said. The interval counts customers, who are assigned as a whole, not their turns."""

    by: str
    customers: int
    turns: int
    up: int
    interval: tuple[float, float]
    tokens: int
    tokens_per_s: float
    """Of one reply, while others are under way."""


def names(reply: str, order: str) -> bool:
    """Whether this very number is in the reply.

    >>> names("Order K-101 is on its way.", "K-101"), names("Order K-1012 is on its way.", "K-101")
    (True, False)
    """
    return re.search(rf"(?<!\w){re.escape(order)}(?!\d)", reply) is not None


def fresh_orders(log: str) -> list[str]:
    """Numbers that the log does not have, in rising order from 100 on: as many as anybody asks for."""
    known = {int(number) for number in re.findall(r"\bK-(\d+)", log)}
    return [f"K-{number}" for number in islice((n for n in count(100) if n not in known), 1_000)]


def questions(users: int, orders: Sequence[str]) -> list[list[Question]]:
    """By customer. No two have the same wording and order."""
    asked = []
    for user in range(users):
        numbers = range(user * TURNS_EACH, (user + 1) * TURNS_EACH)
        asked.append([_question(f"real-customer-{user:03}", number, orders[number]) for number in numbers])
    return asked


def _question(user: str, number: int, order: str) -> Question:
    rest, question = divmod(number, len(QUESTIONS))
    rest, opening = divmod(rest, len(OPENINGS))
    text = OPENINGS[opening] + QUESTIONS[question].format(order=order) + CLOSINGS[rest % len(CLOSINGS)]
    return Question(user, order, text[0].upper() + text[1:])


def chat(url: str, customers: Sequence[Sequence[Question]], say: Callable[[str], None]) -> list[Rated]:
    """All of them, some at a time: each asks by /v1/chat/completions, and rates by /v1/feedback. Raises httpx.HTTPError."""
    rated: list[Rated] = []
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        with httpx.Client(base_url=url, timeout=ANSWER_S) as client:
            for done in as_completed([pool.submit(_visit, client, asked) for asked in customers]):
                rated += done.result()
                if len(rated) % (12 * TURNS_EACH) == 0:
                    say(f"{len(rated)} of {sum(map(len, customers))} turns")
    finally:
        pool.shutdown(cancel_futures=True)
    return rated


def _visit(client: httpx.Client, asked: Sequence[Question]) -> list[Rated]:
    """Each question is a conversation of its own."""
    return [_turn(client, question, f"{question.user}-{number}") for number, question in enumerate(asked)]


def _turn(client: httpx.Client, question: Question, conversation: str) -> Rated:
    body: dict[str, Any] = {
        "model": "trimtab",
        "messages": [{"role": "user", "content": question.text}],
        "max_tokens": REPLY_TOKENS,
        "safety_identifier": question.user,
        "metadata": {"conversation_id": conversation, "locale": "en"},
    }
    began = time.monotonic()
    answer = client.post("/chat/completions", json=body).raise_for_status()
    seconds, document = time.monotonic() - began, answer.json()
    reply, tokens = document["choices"][0]["message"]["content"] or "", document["usage"]["completion_tokens"]
    rated = Rated(question, document["id"], answer.headers[ADAPTER_HEADER], reply, tokens, seconds)
    thumb = {"turn_id": rated.turn_id, "kind": "thumbs", "value": rated.up}
    client.post("/feedback", json=thumb).raise_for_status()
    return rated


def arms(rated: Sequence[Rated]) -> list[Arm]:
    """The base first, then adapters."""
    return [_arm(by, [one for one in rated if one.by == by]) for by in ordered({one.by for one in rated})]


def ordered(policies: Collection[str]) -> list[str]:
    """The base first."""
    return sorted(policies, key=lambda by: (by != BASE, by))


def _arm(by: str, rated: Sequence[Rated]) -> Arm:
    users, up = len({one.question.user for one in rated}), sum(one.up for one in rated)
    tokens, seconds = sum(one.tokens for one in rated), sum(one.seconds for one in rated)
    return Arm(by, users, len(rated), up, wilson(up / len(rated), users, CONFIDENCE), tokens, tokens / seconds)
