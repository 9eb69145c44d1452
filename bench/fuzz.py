"""The properties of tests/fuzz for as long as one likes, with fresh seeds: `python -m bench.fuzz --minutes 60`.

The properties that need the service run beside each other, as strangers would; a failure is told with its smallest example,
and ends the run with 1. What the roles logged stays in the folder that is named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.properties import PROPERTIES, Property, checked
from tests.fuzz.service import Fuzzed, fuzzed

AT_ONCE = 50
"""Examples between two looks at the clock."""


class Run:
    """One run until `until_s` (monotonic seconds)."""

    def __init__(self, service: Fuzzed, until_s: float) -> None:
        self._service, self._until_s = service, until_s
        self.examples: Counter[str] = Counter()
        self.failures: list[str] = []

    def go(self, properties: list[Property]) -> None:
        """One after another, again and again."""
        while time.monotonic() < self._until_s and properties:
            for one in list(properties):
                try:
                    checked(one, self._service if one.live else None, AT_ONCE, derandomize=False)
                except BaseException:  # whatever was found: the others go on
                    self.failures.append(f"{one.name}:\n{traceback.format_exc()[-6_000:]}")
                    print(self.failures[-1], flush=True)
                    properties.remove(one)
                self.examples[one.name] += AT_ONCE


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    minutes = parser.parse_args().minutes
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with fuzzed(folder) as service:
        run = Run(service, time.monotonic() + 60 * minutes)
        groups = [[one] for one in PROPERTIES if one.live] + [[one for one in PROPERTIES if not one.live]]
        threads = [threading.Thread(target=run.go, args=(group,)) for group in groups]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            service.quiet()
        except AssertionError as found:
            run.failures.append(f"accounting: {found}")
            print(run.failures[-1][:6_000])
        answered = sorted(service.answered.items())
    print(f"{sum(run.examples.values()):,} examples: {dict(run.examples)}; answers: {dict(answered)}; logs in {folder}")
    print(f"{len(run.failures)} failures")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
