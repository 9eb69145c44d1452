"""Looking at many candidates: 10,000 of them and 1,000,000 rows of history, in a warm process.

The first page of the list, one page in the middle, what is served, the newest history, and the figures on /metrics; each is
looked at again and again, its median and the spread shown. Nothing on disk is read for a list, so the candidates have none.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sqlalchemy import insert  # noqa: E402

from deploy.control import schema  # noqa: E402
from deploy.control.store import Control, open_control  # noqa: E402
from deploy.decisions import figures  # noqa: E402
from deploy.decisions.evidence import policy_of  # noqa: E402
from deploy.decisions.operations import Operations  # noqa: E402
from deploy.rules.approval import VERSION, Evidence  # noqa: E402
from deploy.rules.reasons import Reason, as_json  # noqa: E402
from deploy.settings import Settings  # noqa: E402
from feedback.clock import SystemClock  # noqa: E402

CHUNK = 20_000
ROUNDS = 30


def fill(control: Control, candidates: int, rows: int) -> None:
    """Candidates that were held, and a history; the hash chain is not what is measured, and left out."""
    policy = policy_of(Settings())
    few = (Reason("too_few_comparisons", {"count": 0, "needed": 200}),)
    with control.database.write() as connection:
        for first in range(0, candidates, CHUNK):
            found, seals = [], []
            for number in range(first, min(first + CHUNK, candidates)):
                digest = f"{number * 0x9E3779B97F4A7C15 % 2**256:064x}"
                evidence = Evidence(digest, "sha256:0", "0" * 64, None, policy, "hold", few, number)
                row = {"digest": digest, "snapshot": "s", "dataset_hash": "sha256:0", "report_sha256": "0" * 64}
                row |= {"created_at_us": number, "registered_at_us": number, "state": "held", "stage": "gate"}
                found.append(row | {"seal": evidence.seal})
                seal = {"seal": evidence.seal, "candidate": digest, "decision": "hold", "reasons": as_json(few)}
                seals.append(seal | {"evidence": evidence.document(), "sealed_at_us": number, "version": VERSION})
            connection.execute(insert(schema.candidates), found)
            connection.execute(insert(schema.seals), seals)
        for first in range(1, rows + 1, CHUNK):
            numbers = range(first, min(first + CHUNK, rows + 1))
            common = {"actor": "ada", "action": "promote", "before": "held", "after": "canary", "reason": "r"}
            told = [common | {"id": n, "at_us": n, "subject": f"{n % candidates:064x}", "sha256": "0"} for n in numbers]
            connection.execute(insert(schema.history), told)


def timed(look: Callable[[], object]) -> str:
    """Median and spread in ms, once warm."""
    look()
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        look()
        took.append(1_000 * (time.perf_counter() - started))
    return f"median {statistics.median(took):7.2f} ms   min {min(took):7.2f}   max {max(took):7.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--history", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        control, clock = open_control(Path(name) / "control.db"), SystemClock()
        fill(control, asked.candidates, asked.history)
        rules = Operations(control, Settings, Path(name) / "none", clock)
        middle = rules.candidates(asked.candidates // 2)[-1]["digest"]
        print(f"{asked.candidates:,} candidates, {asked.history:,} rows of history, {ROUNDS} looks each")
        looks: dict[str, Callable[[], object]] = {
            "the first page of candidates": rules.candidates,
            "a page in the middle": lambda: rules.candidates(50, middle),
            "what is served, and what to type next": rules.serving,
            "the newest history": rules.history,
            "one candidate": lambda: rules.described(middle, None),
            "the figures on /metrics": lambda: figures.refresh(control, clock.now_us()),
        }
        for what, look in looks.items():
            print(f"  {what:<40} {timed(look)}")
        control.close()


if __name__ == "__main__":
    main()
