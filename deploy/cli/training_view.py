"""The training under way as `trimtab status` tells of it: its phase, how far that is, and how long is left."""

from __future__ import annotations

from typing import Any

from deploy.cli.progress import Pace, left_in_all, named, span
from deploy.training.noting import Noted


def training_document(noted: Noted | None, now_us: int) -> dict[str, Any] | None:
    """For a program; None where nothing is known. Seconds are None where they can't be told yet."""
    if noted is None:
        return None
    pace = _pace(noted)
    left_s = pace.left_s(now_us / 1e6)
    return {
        "phase": noted.phase,
        "done": noted.done,
        "total": noted.total,
        "left_s": left_s,
        "left_in_all_s": left_in_all(noted.phase, left_s, (now_us - noted.phase_began_us) / 1e6, noted.earlier),
        "told": f"{named(noted.phase)}: {pace.told(noted.phase)}",
    }


def training_line(training: dict[str, Any]) -> str:
    """The same for a person."""
    parts = [training["told"]]
    if training["left_s"] is not None:
        parts.append(f"{span(training['left_s'])} left")
    if training["left_in_all_s"] is not None:
        parts.append(f"all ~{span(training['left_in_all_s'])}")
    return ", ".join(parts)


def _pace(noted: Noted) -> Pace:
    pace = Pace()
    pace.hear(noted.first_done, noted.total, noted.first_at_us / 1e6)
    if noted.at_us > noted.first_at_us:
        pace.hear(noted.done, noted.total, noted.at_us / 1e6)
    return pace
