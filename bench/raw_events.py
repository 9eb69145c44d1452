"""The same raw turns and ratings each time, for the measurements of `bench/streams.py`."""

from __future__ import annotations

import json

from feedback.topics import EVENTS

QUESTIONS = (
    "Hello, my order {n} has not come yet. Can you look where it is?",
    "I paid twice, on 3 May and on 5 May, please send one payment back to me.",
    "You can reach me at anna.{n}@example.com or on +49 171 5550{n:04d}.",
    "Thanks! And how long does it take until I see it on my account?",
)
REPLIES = (
    "I am sorry to hear that. I see that your parcel left our warehouse yesterday and should be with you by Friday.",
    "I have checked both payments and sent the second one back; it takes up to five working days.",
    "Thank you, I have noted it, and we will write to you as soon as there is news of your order.",
    "Usually three to five working days, depending on your bank. Is there anything else that I can do for you?",
)
SYSTEM = "You are the support assistant of a shop. Be brief and friendly; never promise what the shop does not keep."
RATED = 6
"""One event in so many is a thumb."""


def events(count: int) -> list[tuple[str, bytes, bytes]]:
    """(topic, key, value): conversations of four turns whose history grows, and thumbs."""
    found: list[tuple[str, bytes, bytes]] = []
    turn = 0
    while len(found) < count:
        conversation, place = divmod(turn, len(QUESTIONS))
        history = [{"role": "system", "content": SYSTEM}]
        for number in range(place):
            history.append({"role": "user", "content": QUESTIONS[number].format(n=conversation % 10_000)})
            history.append({"role": "assistant", "content": REPLIES[number]})
        history.append({"role": "user", "content": QUESTIONS[place].format(n=conversation % 10_000)})
        common = {"conversation_id": f"c{conversation}", "turn_id": f"t{turn}", "user_id": f"u{conversation // 3}"}
        key, at = f"c{conversation}".encode(), 1_767_268_800 + turn
        event = {"event": "turn", "event_id": f"e{turn}", "policy": f"p{turn % 3}", "locale": "en", "occurred_at": at}
        found.append(
            (EVENTS[0], key, json.dumps({**event, **common, "messages": history, "reply": REPLIES[place]}).encode())
        )
        if turn % (RATED - 1) == 0:
            rating = {"event": "rating", "event_id": f"r{turn}", "kind": "thumbs", "source": "user", "value": True}
            found.append((EVENTS[1], key, json.dumps({**rating, **common, "occurred_at": at + 9}).encode()))
        turn += 1
    return found[:count]
