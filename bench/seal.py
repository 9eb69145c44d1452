"""How long a snapshot of millions of turns takes to seal, and how much memory.

    python -P bench/seal.py --turns 5000000

Makes facts of that many turns as the workers would write them (chats of many people in four languages, with ratings,
verdicts and second replies), then seals them in a process of its own. `--state` keeps them, for another run.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from feedback import splits
from feedback.clock import SystemClock
from feedback.dataset.snapshot import seal
from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import content_hash
from feedback.records import Judgement, Pick, Rating, Turn, Verdict
from feedback.settings import WindowSettings

START_US, DAY_US, STEP_US = 1_767_225_600_000_000, 86_400_000_000, 30_000_000
DAYS = 89
AS_OF_US = START_US + (DAYS + 1) * DAY_US
PER_COMMIT = 20_000
LOCALES = ("en", "en", "en", "de", "es", "zh")
SHORT = ("hi", "hello there", "thank you", "where is my order {n}", "I want to return item {n} of order {n}")

Event = Turn | Rating | Judgement


def chats(turns: int, seed: int) -> Iterator[tuple[str, Event]]:
    """(topic, event) of so many turns, in chats of up to six."""
    chance, made = random.Random(seed), 0
    says = _speech(chance)
    for chat in range(turns):
        user, locale = f"u{chance.randrange(200_000)}", chance.choice(LOCALES)
        at_us, last = START_US + chance.randrange(DAYS * DAY_US), None
        for _ in range(chance.randint(1, 6)):
            if made == turns:
                return
            at_us += STEP_US
            again = last is not None and chance.random() < 0.03
            turn = Turn(
                tenant="shop", event_id=f"served-{made}", conversation_id=f"chat-{chat}", turn_id=f"turn-{made}",
                occurred_at_us=at_us, messages=_context(last, again, chance, says), reply=says(80), policy="base",
                user_id=user, locale=locale, bucket=splits.bucket(user, "shop"),
                replaces=last.turn_id if last is not None and again else None,
            )  # fmt: skip
            yield "turns.served", turn
            yield from _said(chance, turn)
            last, made = turn, made + 1


def _speech(chance: random.Random) -> Callable[[int], str]:
    """Words by Zipf's law, in runs of up to so many."""
    ends = ("n", "r", "st", "l", "", "ck", "m", "ts")
    words = [a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "ai", "ou") for c in ends]
    spoken = chance.choices(words, [1 / (rank + 3) for rank in range(len(words))], k=1_000_000)

    def says(most: int) -> str:
        at = chance.randrange(len(spoken) - most)
        return " ".join(spoken[at : at + chance.randint(3, most)])

    return says


def _context(last: Turn | None, again: bool, chance: random.Random, says: Callable[[int], str]) -> list[dict[str, Any]]:
    if last is not None and again:
        return last.messages
    short = chance.choice(SHORT).format(n=chance.randrange(10**6))
    asked = {"role": "user", "content": short if chance.random() < 0.2 else says(40)}
    return [asked] if last is None else [*last.messages, {"role": "assistant", "content": last.reply}, asked]


def _said(chance: random.Random, turn: Turn) -> Iterator[tuple[str, Event]]:
    """A rating of every tenth turn, and a verdict on another tenth."""
    place: dict[str, Any] = {"tenant": turn.tenant, "conversation_id": turn.conversation_id, "turn_id": turn.turn_id}
    place["occurred_at_us"] = turn.occurred_at_us + STEP_US // 2
    by = {"source": "user", "user_id": turn.user_id, "bucket": turn.bucket, "event_id": f"on-{turn.turn_id}"}
    if turn.replaces is not None and chance.random() < 0.5:
        yield "ratings.given", Rating(kind="pick", value=Pick(over=turn.replaces), **by, **place)
    elif chance.random() < 0.1:
        yield "ratings.given", Rating(kind="thumbs", value=chance.random() < 0.7, **by, **place)
    elif chance.random() < 0.11:
        yield "verdicts.given", Verdict(
            verdict_id=f"v-{turn.turn_id}", request_id=f"q-{turn.turn_id}", model="judge", rubric="helpful@1", prompt_hash="0" * 64,
            confidence=0.8, rationale="It answers what was asked, briefly and without guessing.", score=chance.random(), **place,
        )  # fmt: skip


def write(state: Path, turns: int, seed: int) -> None:
    """Commit the facts, as a worker with eight partitions would."""
    writer = FactsWriter(state / "facts", lambda topic: "bench", SystemClock())
    events, offsets = chats(turns, seed), defaultdict[tuple[str, int], int](int)
    with Progress(console=Console(stderr=True)) as told:
        task = told.add_task("facts", total=turns)
        while chunk := list(islice(events, PER_COMMIT)):
            rows: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
            for topic, event in chunk:
                place = topic, hash_of(event.conversation_id)
                digest = content_hash(event) if isinstance(event, Turn | Rating) else event.verdict_id
                rows[place].append(Row(event, digest, "0" * 64, offsets[place], event.occurred_at_us))
                offsets[place] += 1
            writer.commit([Batch(*place, tuple(mine), offsets[place]) for place, mine in rows.items()])
            told.advance(task, sum(topic == "turns.served" for topic, _ in chunk))


def hash_of(conversation_id: str) -> int:
    """The partition of a conversation."""
    return int(conversation_id.rpartition("-")[2]) % 8


def sealed(state: Path) -> dict[str, Any]:
    """Seal in this process; seconds, and the most memory that it ever held."""
    before, started = most_memory_mb(), time.monotonic()
    snapshot = seal(Facts(state / "facts"), AS_OF_US, WindowSettings(), state / "snapshots")
    counts = snapshot.counts
    return {
        "turns": counts.turns,
        "ratings": sum(counts.ratings.values()),
        "judged": counts.judged,
        "in_window": counts.in_window,
        "dropped": counts.dropped,
        "pairs": counts.pairs,
        "unpaired": counts.unpaired,
        "dataset_hash": snapshot.dataset_hash,
        "seconds": round(time.monotonic() - started, 1),
        "memory_mb": most_memory_mb(),
        "memory_before_mb": before,
    }


def most_memory_mb() -> int:
    """The most that this process ever held; getrusage would tell of the one that started it, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="keep the facts here, and take them up if they are there")
    parser.add_argument("--seal-only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.seal_only:
        print(json.dumps(sealed(given.state)))
        return
    with tempfile.TemporaryDirectory() as folder:
        state = given.state or Path(folder)
        if not (state / "facts").exists():
            write(state, given.turns, given.seed)
        subprocess.run([sys.executable, "-P", __file__, "--state", state, "--seal-only"], check=True)


if __name__ == "__main__":
    main()
