"""What came of the rounds: medians, ratios within a round, a table, a plot, and everything as JSON."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from rich.table import Table

from bench.peers.chart import bars
from bench.peers.contestants import Contestant
from bench.peers.load import Counted
from bench.peers.rounds import Asked, Turn

AGAIN = " again"
"""What the name of a contestant ends with that runs a second time, to show the noise."""
BUSY = 0.85
"""Below this share of a core its answers a second say more about the load than about it."""

QUIET_MS = 5.0
"""What direct needs at most where nothing else runs."""


@dataclass(frozen=True)
class Results:
    """Turns by contestant, round by round; `names` begin with direct, then who the others are compared with."""

    names: Sequence[str]
    rounds: Sequence[dict[str, Turn]]
    contestants: Sequence[Contestant]
    left_out: dict[str, str] = field(default_factory=dict)

    def median(self, name: str, way: str, figure: Callable[[Asked], float]) -> float:
        """Over the rounds; NaN where it was never asked so, or the figure is unknown."""
        return _median([figure(one) for one in self._asked(name, way)])

    def memory_mb(self, name: str) -> float:
        return _median([turns[name].memory_mb for turns in self.rounds])

    def ratios(self, one: str, other: str, way: str) -> list[float]:
        """How many times as many answers `one` gives per CPU-second as `other`, round by round; sorted."""
        pairs = zip(self._asked(one, way), self._asked(other, way), strict=True)
        return sorted(a.per_cpu_s / b.per_cpu_s for a, b in pairs if a.counted.answers and b.counted.answers)

    def added_ms(self, name: str, figure: Callable[[Counted], float]) -> list[float]:
        """By how much a latency at the rate lies above direct's in the same round; sorted, empty for who is too slow."""
        pairs = [(turns[name].asked.get("rate"), turns["direct"].asked.get("rate")) for turns in self.rounds]
        return sorted(figure(its.counted) - figure(direct.counted) for its, direct in pairs if its and direct)

    def _asked(self, name: str, way: str) -> list[Asked]:
        return [turns[name].asked[way] for turns in self.rounds if way in turns[name].asked]

    def table(self, rate: float) -> Table:
        """One line for each contestant."""
        made = Table(box=None, pad_edge=False)
        made.add_column("")
        heads = ("requests/s", "CPU ms", "per CPU-s", "streams/s", "CPU ms", "per CPU-s")
        for head in (*heads, f"+p50 ms at {rate:g}/s", "+p99 ms", "MB", "errors"):
            made.add_column(head, justify="right")
        for name in self.names:
            made.add_row(name, *self._cells(name))
        return made

    def _cells(self, name: str) -> Iterator[str]:
        for way in ("plain", "streams"):
            yield _shown(self.median(name, way, lambda one: one.counted.per_second))
            yield _shown(self.median(name, way, lambda one: one.cpu_ms), 3)
            yield _shown(self.median(name, way, lambda one: one.per_cpu_s))
        for figure in (_p50, _p99):
            added = self.added_ms(name, figure)
            yield _shown(statistics.median(added), 2) if added else "too slow"
        yield _shown(self.memory_mb(name))
        yield str(sum(one.counted.errors for turns in self.rounds for one in turns[name].asked.values()))

    def remarks(self) -> Iterator[str]:
        """Ratios with their spread, other numbers of connections, and what may not be trusted."""
        first, others = self.names[1], self.names[2:]
        for name in others:
            each = "; ".join(f"{way} {_spread(self.ratios(first, name, way))}" for way in ("plain", "streams"))
            noise = "   (this is the noise)" if name.endswith(AGAIN) else ""
            yield f"answers per CPU-second, {first} / {name}: {each}{noise}"
        for way in dict.fromkeys(way for turns in self.rounds for turn in turns.values() for way in turn.asked):
            if way not in ("plain", "streams", "rate"):
                rates = {name: self.median(name, way, lambda one: one.counted.per_second) for name in self.names}
                yield f"requests/s, {way}: " + "; ".join(f"{name} {_shown(rate)}" for name, rate in rates.items())
        for name in self.names[1:]:
            busy = self.median(name, "plain", lambda one: one.busy)
            if busy < BUSY:
                why = "it waited for the core (does other work run here?) or for its disk; under other work CPU is dearer, too: trust the ratios"
                yield f"{name} had its core for only {busy:.0%} of the time, plain: {why}"
        direct = self.median("direct", "rate", lambda one: one.counted.p99_ms)
        if direct > QUIET_MS:
            yield f"direct alone had a p99 of {direct:.1f} ms: other work runs on this machine; added p50 and p99 say nothing"
        yield from self._faults()

    def _faults(self) -> Iterator[str]:
        for name in self.names:
            faults = [one.counted.first_error for turns in self.rounds for one in turns[name].asked.values()]
            if fault := next(filter(None, faults), None):
                yield f"{name} said: {fault}"

    def about(self) -> str:
        """Versions and licences."""
        return "; ".join(f"{one.name} {one.version()} ({one.licence})" for one in self._taking_part())

    def _taking_part(self) -> list[Contestant]:
        return [one for one in self.contestants if one.name in self.names]

    def document(self) -> dict[str, object]:
        """Everything that was measured."""
        system = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        about = {one.name: {"version": one.version(), "licence": one.licence} for one in self._taking_part()}
        rounds = [{name: _as_json(turn) for name, turn in turns.items()} for turns in self.rounds]
        return {"system": system, "contestants": about, "left_out": self.left_out, "rounds": rounds}

    def plot(self) -> str:
        """An SVG: what a second of CPU is enough for, and what is added to a wait."""
        plain = {name: self.median(name, "plain", lambda one: one.per_cpu_s) for name in self.names}
        streams = {name: self.median(name, "streams", lambda one: one.per_cpu_s) for name in self.names}
        waits = {name: _median(self.added_ms(name, _p50)) for name in self.names}
        groups = {"requests per CPU-second": plain, "streams per CPU-second": streams, "added p50 in ms": waits}
        return bars("Gateways, each on one core", groups)


def _p50(counted: Counted) -> float:
    return counted.p50_ms


def _p99(counted: Counted) -> float:
    return counted.p99_ms


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def _shown(value: float, places: int = 0) -> str:
    return "–" if math.isnan(value) else f"{value:,.{places}f}"


def _spread(values: Sequence[float]) -> str:
    """Median, and from lowest to highest."""
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})" if values else "–"


def _as_json(turn: Turn) -> dict[str, object]:
    """NaN, which JSON does not know, becomes null."""
    found: dict[str, object] = {"memory_mb": _known(turn.memory_mb)}
    for way, one in turn.asked.items():
        counted = {name: _known(value) for name, value in asdict(one.counted).items()}
        found[way] = {**counted, "cpu_s": one.cpu_s}
    return found


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
