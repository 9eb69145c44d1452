"""What it costs to decode and check one event: msgspec beside pydantic, alternating, on the sample log.

    python bench/contract.py [FILE] [--rounds N]

Three ways to make a checked turn or rating of a line: pydantic's tagged union; msgspec's tagged union, the same fields and
types; `feedback.intake.contract.parse`, which is msgspec with everything else that the contract asks for (unknown fields kept,
duplicate keys refused, a reason that names the field).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from feedback.intake import contract, event_files
from feedback.intake.contract import Rejected
from feedback.intake.wire import WireRating, WireTurn
from feedback.records import Outcome, RatingKind

SAMPLE = Path(__file__).parent.parent / "examples" / "support.jsonl.gz"


class Common(BaseModel):
    """The contract's fields for pydantic; the msgspec side takes them from feedback/intake/contract.py."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: str
    conversation_id: str
    occurred_at: str | float
    schema_: int = Field(1, alias="schema")
    tenant: str = "default"
    user_id: str | None = None
    locale: str | None = None
    tags: dict[str, str] = {}


class PydanticTurn(Common):
    event: Literal["turn"]
    turn_id: str
    messages: list[dict[str, Any]]
    reply: str | dict[str, Any]
    policy: str
    replaces: str | None = None
    outcome: Outcome = "ok"
    finish_reason: str | None = None
    usage: dict[str, float] | None = None
    train: bool = True
    truncated: int = 0
    base: str | None = None
    rollout: dict[str, Any] | None = None


class PydanticRating(Common):
    event: Literal["rating"]
    source: Literal["user", "expert", "system"]
    kind: RatingKind
    value: Any
    turn_id: str | None = None
    rubric: str | None = None


def seconds(decode: Callable[[bytes], Any], raws: list[bytes]) -> float:
    """CPU-seconds for all lines."""
    start = time.process_time()
    for raw in raws:
        decode(raw)
    return time.process_time() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", nargs="?", type=Path, default=SAMPLE)
    arguments.add_argument("--rounds", type=int, default=9)
    asked = arguments.parse_args()
    now_us = time.time_ns() // 1_000
    lines = [line.raw for line in event_files.lines(asked.file) if line.rejected is None]
    raws = [raw for raw in lines if not isinstance(contract.parse(raw, now_us), Rejected)]
    ways: dict[str, Callable[[bytes], Any]] = {
        "pydantic": TypeAdapter(Annotated[PydanticTurn | PydanticRating, Field(discriminator="event")]).validate_json,
        "msgspec": msgspec.json.Decoder(WireTurn | WireRating).decode,
        "contract.parse": lambda raw: contract.parse(raw, now_us),
    }
    for decode in ways.values():
        seconds(decode, raws)  # warm up; and all of them must take every line
    rounds = [{name: seconds(decode, raws) for name, decode in ways.items()} for _ in range(asked.rounds)]
    print(
        f"{len(raws):,} events, {sum(map(len, raws)) / len(raws):.0f} bytes on average, {asked.rounds} rounds, CPU time"
    )
    for name in ways:
        cost = statistics.median(measured[name] for measured in rounds) / len(raws)
        ratios = sorted(measured["pydantic"] / measured[name] for measured in rounds)
        middle, low, high = statistics.median(ratios), ratios[0], ratios[-1]
        print(
            f"{name:15} {cost * 1e6:6.1f} µs per event   {middle:5.2f} times as fast as pydantic ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
