"""Makes support.jsonl.gz, the sample log: three weeks of chats with a fictional shop's assistant, and what people said of it.

    python examples/generate_support.py > support.jsonl
    python examples/generate_support.py examples/support.jsonl.gz

The same bytes on every run and every Python from 3.11. Nothing in it is from a real conversation. What the log holds
on purpose is in examples/README.md.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support_blemishes import blemished
from support_language import LANGUAGES, TOPICS, Dice, Language, Subject
from support_ratings import Opinion, conversation_ratings, expert_ratings, user_ratings

SEED = "trimtab support 1"
CONVERSATIONS = 1_680
USERS = 480
END = datetime(2026, 11, 20, 18, tzinfo=UTC)
DAYS = 21
NEW_POLICY_FROM = datetime(2026, 11, 9, 6, tzinfo=UTC)

LANGUAGE_SHARE = {"en": 0.38, "de": 0.25, "es": 0.21, "zh": 0.16}
TOPIC_SHARE = dict(zip(TOPICS, (0.29, 0.20, 0.06, 0.16, 0.06, 0.06, 0.02, 0.15), strict=True))
BAD_SHARE = {"support-base-2026-09": 0.45, "support-base-2026-10": 0.35}
FLAWS = {
    "wrong_number": 0.2,
    "off_topic": 0.24,
    "wrong_language": 0.12,
    "curt": 0.14,
    "repeats": 0.11,
    "long_winded": 0.11,
}

WORTH = {"none": 0.95, "long_winded": 0.5, "curt": 0.35, "repeats": 0.3, "wrong_number": 0.12, "off_topic": 0.1, "wrong_language": 0.08}  # fmt: skip
"""How content a reply leaves a customer, 0..1, by what is wrong with it."""

Event = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the assistant answered to which move, what it should have answered, and what is wrong ("none": nothing)."""

    move: str
    text: str
    right: str
    flaw: str

    @property
    def worth(self) -> float:
        return WORTH[self.flaw]


@dataclass
class Chat:
    """One conversation while it goes on."""

    id: str
    dice: Dice
    language: Language
    user_id: str | None
    channel: str
    locale: str
    at: datetime
    subject: Subject
    topic: str
    messages: list[Event] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    served: int = 0

    @property
    def policy(self) -> str:
        return "support-base-2026-10" if self.at >= NEW_POLICY_FROM else "support-base-2026-09"

    def say(self, role: str, text: str) -> None:
        self.messages.append({"role": role, "content": text})

    def serve(self, reply: Reply, replaces: str | None = None) -> str:
        """Log a turn that answers the messages so far; returns its id."""
        self.served += 1
        turn_id = f"t{self.id[1:]}-{self.served}"
        turn: Event = {
            "event": "turn",
            "schema": 1,
            "event_id": f"served-{turn_id}",
            "conversation_id": self.id,
            "turn_id": turn_id,
            **({"user_id": self.user_id} if self.user_id else {}),
            "occurred_at": self.at.isoformat().replace("+00:00", "Z"),
            "policy": self.policy,
            "messages": [dict(message) for message in self.messages],
            "reply": reply.text,
            "locale": self.locale,
            "tags": {"channel": self.channel, "topic": self.topic},
            **({"replaces": replaces} if replaces else {}),
        }
        self.events.append(turn)
        return turn_id

    def opinion(self, turn_id: str, reply: Reply) -> Opinion:
        return Opinion(self.id, turn_id, self.user_id, self.locale, self.at, reply.worth, reply.flaw, reply.right)


# --- replies


def right_reply(chat: Chat, move: str) -> str:
    """The reply that the customer's last move deserves; one about an order ends with its number, as a reference."""
    kinds = {"thanks": "welcome", "small_talk": "small_talk_reply", "correction": "correction_reply"}
    if move == "follow_up":
        kinds[move] = "plain_follow_up_replies" if chat.topic in ("product", "hours") else "follow_up_replies"
    if move in kinds:
        reply = chat.language.one(chat.dice, kinds[move], chat.subject)
    else:
        reply = chat.language.one(chat.dice, "replies", chat.subject, chat.topic)
    return f"{reply} [{chat.subject.order}]" if chat.subject.order in reply else reply


def reply_to(chat: Chat, move: str, bad_share: float, languages: dict[str, Language]) -> Reply:
    """A reply as a model of middling quality gives it: right, or wrong in one of six ways."""
    right = right_reply(chat, move)
    if move in ("thanks", "small_talk"):
        bad_share /= 3
    if not chat.dice.chance(bad_share):
        return Reply(move, right, right, "none")
    has_number = chat.subject.order in right
    flaw = chat.dice.weighted({name: share for name, share in FLAWS.items() if has_number or name != "wrong_number"})
    return Reply(move, spoilt(chat, flaw, move, right, languages), right, flaw)


def spoilt(chat: Chat, flaw: str, move: str, right: str, languages: dict[str, Language]) -> str:
    dice, language = chat.dice, chat.language
    match flaw:
        case "wrong_number":
            return right.replace(chat.subject.order, other_order(dice, chat.subject.order))
        case "off_topic":
            if dice.chance(0.5):
                return language.one(dice, "generic", chat.subject)
            other = dice.pick([topic for topic in TOPICS if topic != chat.topic])
            return right_reply(replace(chat, topic=other), "question")
        case "wrong_language":
            foreign = languages[dice.pick([name for name in LANGUAGES if name != language.name])]
            return right_reply(replace(chat, language=foreign), move)
        case "curt":
            return language.one(dice, "curt", chat.subject)
        case "repeats":
            return language.repeated(right)
        case _:
            return language.long_winded(dice, right)


def other_order(dice: Dice, order: str) -> str:
    return f"K-{(int(order[2:]) - 10 + dice.number(1, 89)) % 90 + 10}"


# --- conversations


def next_move(chat: Chat, last: Reply | None) -> str | None:
    """What the customer does after the last reply; None: leaves."""
    dice = chat.dice
    if last is None:
        return "small_talk" if dice.chance(0.04) else "question"
    if last.move == "small_talk":
        return "question" if dice.chance(0.7) else None
    if last.flaw == "wrong_number":
        return "correction" if dice.chance(0.55) else None
    if last.flaw not in ("none", "long_winded"):
        return "again" if dice.chance(0.5) else None
    return dice.weighted({None: 0.53, "follow_up": 0.19, "question": 0.13, "thanks": 0.10})


def new_words(chat: Chat, move: str) -> str:
    """The customer's message; who says the same thing twice chose at least three times."""
    for _ in range(3):
        text = words(chat, move)
        if not any(message["content"] == text for message in chat.messages):
            break
    return text


def words(chat: Chat, move: str) -> str:
    language, dice = chat.language, chat.dice
    match move:
        case "question":
            text = language.question(dice, chat.topic, chat.subject, greets=not chat.messages)
            return language.join(text, f"({contact(chat)})") if dice.chance(0.015) else text
        case "again":
            return language.again(dice, chat.topic, chat.subject)
        case "follow_up":
            return language.follow_up(dice, chat.topic, chat.subject)
        case "correction":
            return language.one(dice, "corrections", chat.subject)
        case _:
            return language.one(dice, move, chat.subject)


def contact(chat: Chat) -> str:
    """A sentence with made-up personal data in it, for the redaction to find."""
    dice = chat.dice
    return chat.language.one(
        dice,
        "comments_personal",
        chat.subject,
        phone=f"+1 212 555 01{dice.number(10, 99)}",
        email=f"reader{dice.number(10, 99)}@example.com",
        ip=f"192.0.2.{dice.number(1, 254)}",
    )


def converse(chat: Chat, languages: dict[str, Language]) -> None:
    """Up to four exchanges, each rated or not."""
    last: Reply | None = None
    worths: list[float] = []
    for _ in range(4):
        move = next_move(chat, last)
        if move is None:
            break
        if move == "question" and last is not None:
            chat.topic = chat.dice.weighted(TOPIC_SHARE)
        chat.say("user", new_words(chat, move))
        chat.at += timedelta(seconds=chat.dice.number(2, 5))
        last = exchange(chat, move, languages)
        worths.append(last.worth)
        chat.say("assistant", last.text)
        chat.at += timedelta(seconds=chat.dice.number(25, 160))
        if move == "thanks":
            break
    chat.events += conversation_ratings(chat.dice, chat.opinion("", last or Reply("", "", "", "none")), worths)


def exchange(chat: Chat, move: str, languages: dict[str, Language]) -> Reply:
    """Answer the customer: usually once, sometimes with two replies to pick from, sometimes again on request."""
    dice, bad_share = chat.dice, BAD_SHARE[chat.policy]
    first = reply_to(chat, move, bad_share, languages)
    turn_id = chat.serve(first)
    if dice.chance(0.033):
        second = reply_to(chat, move, bad_share, languages)
        if second.text != first.text:
            other_id = chat.serve(second)
            event, better_first = chat.opinion(turn_id, first).pick(dice, chat.opinion(other_id, second))
            chat.events.append(event)
            return first if better_first else second
    rated(chat, turn_id, first)
    if first.worth < 0.4 and dice.chance(0.09):
        chat.events.append(chat.opinion(turn_id, first).rating(dice, "signal", "regenerate", 8))
        chat.at += timedelta(seconds=dice.number(9, 20))
        second = reply_to(chat, move, 0.25, languages)
        rated(chat, chat.serve(second, replaces=turn_id), second)
        return second
    return first


def rated(chat: Chat, turn_id: str, reply: Reply) -> None:
    comments = "comments_good" if reply.worth > 0.6 else "comments_bad"
    comment = contact(chat) if chat.dice.chance(0.2) else chat.language.one(chat.dice, comments, chat.subject)
    opinion = chat.opinion(turn_id, reply)
    chat.events += user_ratings(chat.dice, opinion, comment)
    chat.events += expert_ratings(chat.dice, opinion)


def starts(dice: Dice) -> Iterator[datetime]:
    """When conversations begin: from seven in the morning to ten at night, earliest first."""
    first = END - timedelta(days=DAYS - 1)
    yield from sorted(
        first + timedelta(days=dice.number(0, DAYS - 1), minutes=dice.number(-660, 239), seconds=dice.number(0, 59))
        for _ in range(CONVERSATIONS)
    )


def conversations() -> Iterator[Chat]:
    """All conversations, finished."""
    languages = {name: Language(name) for name in LANGUAGES}
    people = Dice(f"{SEED}/people")
    speaks = [people.weighted(LANGUAGE_SHARE) for _ in range(USERS)]
    eagerness = {user: 1_000 // (user + 12) + 8 for user in range(USERS)}
    for number, start in enumerate(starts(Dice(f"{SEED}/starts")), 1):
        dice = Dice(f"{SEED}/{number}")
        user = dice.weighted(eagerness)
        language = languages[speaks[user]]
        chat = Chat(
            id=f"c{number:04}",
            dice=dice,
            language=language,
            user_id=None if dice.chance(0.05) else f"customer-{user:03}",
            channel=dice.pick(("app", "web", "web")),
            locale=language.locales[user % 5 == 0],
            at=start,
            subject=Subject.draw(dice),
            topic=dice.weighted(TOPIC_SHARE),
        )
        converse(chat, languages)
        yield chat


def log_lines() -> Iterator[str]:
    """The log's lines, in the order in which they were written down."""
    events = [event for chat in conversations() for event in chat.events if event["occurred_at"] <= stamp(END)]
    for event in blemished(Dice(f"{SEED}/blemishes"), events):
        yield event if isinstance(event, str) else json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def log_bytes() -> bytes:
    """The whole log as JSON lines."""
    return "".join(f"{line}\n" for line in log_lines()).encode()


def main() -> None:
    content = log_bytes()
    if len(sys.argv) == 1:
        sys.stdout.buffer.write(content)
    else:
        Path(sys.argv[1]).write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main()
