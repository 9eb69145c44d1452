"""`trimtab …` whose event loop is watched: how long it is busy at a stretch, in CPU time of its own thread.

    python -P -m bench.watched FILE gateway …      on SIGUSR1 the figures since the last one are written to FILE, as JSON

What else runs on the machine makes a reply late, but no stretch longer: so this tells what a gateway does to those who wait from
what the machine does to all. Between two beats of the loop everybody waits for whatever was run there.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEAT_S = 0.001


class Watch:
    """Beats in the running loop, from now on."""

    def __init__(self, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self._cpu_s, self._loop = cpu_s, asyncio.get_running_loop()
        self._longest_s, self._since_s, self._last_s = 0.0, time.process_time(), cpu_s()
        self._loop.call_later(BEAT_S, self._beat)

    def told(self) -> dict[str, float]:
        """Milliseconds since this was asked last: of the loop's longest stretch, and of CPU that the process has used."""
        now_s = time.process_time()
        told = {"stretch_ms": 1e3 * self._longest_s, "cpu_ms": 1e3 * (now_s - self._since_s)}
        self._longest_s, self._since_s = 0.0, now_s
        return told

    def _beat(self) -> None:
        now_s = self._cpu_s()
        self._longest_s, self._last_s = max(self._longest_s, now_s - self._last_s), now_s
        self._loop.call_later(BEAT_S, self._beat)


def write(watch: Watch, file: Path) -> None:
    """All at once: whoever waits for it reads whole figures."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(watch.told()))
    beside.replace(file)


def main(file: Path, arguments: list[str]) -> None:
    from deploy.roles import gateway

    run = gateway.run_gateway

    async def watched(*given: Any, **named: Any) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, write, Watch(), file)
        await run(*given, **named)

    gateway.run_gateway = watched
    from deploy.cli import main as trimtab

    sys.argv = ["trimtab", *arguments]
    trimtab()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
