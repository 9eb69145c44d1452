"""One process that serves every metric there is on a real admin port; each scrape finds that a little more happened.

    python -m tests.dashboards.exposing FOLDER

Prints its port once it can be scraped; ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import Request, Response

from deploy.console.port import admin_app
from deploy.control.records import RolloutLook
from deploy.control.store import Control, open_control
from deploy.decisions import figures
from deploy.decisions.operations import Operations
from deploy.engine import metrics as engine
from deploy.gateway import metrics as serving
from deploy.roles import metrics as roles
from deploy.settings import Settings
from deploy.web.serving import listen, serve
from streams import metrics as streams
from tests.deploy.candidates import make_candidate
from tests.deploy.pairs import compared
from tests.fakes import CLOCK
from tests.feedback.builders import rating, turn, unjudged, verdict


class Loop:
    """Things that happen to a deployment: decisions by the real rules on a real control database, the rest as counted."""

    def __init__(self, folder: Path) -> None:
        self.candidates = folder / "candidates"
        self.candidates.mkdir(parents=True)
        self.control: Control = open_control(folder / "control.db")
        won = compared(180, 80)
        self.rules = Operations(self.control, Settings, self.candidates, CLOCK, weighed=lambda *_: won)
        self.seen = 0

    def happen(self) -> None:
        """Once for each scrape."""
        self.seen += 1
        self._decide()
        self._take_in()
        self._judge()
        self._serve()
        figures.show_comparisons(self.rules.recount())
        figures.refresh(self.control, _now_us())

    def _decide(self) -> None:
        trainings = self.control.trainings
        if self.seen == 1:
            trainings.end(trainings.start("first", _now_us()), "done", _now_us())
            trainings.end(trainings.start("second", _now_us()), "failed", _now_us(), error="out of memory")
            trainings.request("200 new labels", _now_us())
        if self.seen < 40:  # later ones change nothing that is looked at
            digest = make_candidate(self.candidates, seed=self.seen)
            seal = self.rules.register(digest)["evidence"]
            if self.seen > 1:
                self.rules.rollback(actor="test", reason="worse")
            self.rules.approve(digest, evidence=seal, reason="better", actor="test")
            self.rules.promote(actor="test")
            self._look()

    def _look(self) -> None:
        """As the controller's look at users of both arms would be."""
        row = {
            "metric": "errors",
            "age_h": 72.0,
            "slice": None,
            "log_evidence_of_harm": 1.0,
            "log_evidence_needed": 5.0,
        }
        counts = {"bad": {"candidate": 3, "incumbent": 2}, "of": {"candidate": 50, "incumbent": 60}}
        units = {"candidate": 70, "incumbent": 80}
        ratio = {"counted": "assigned", "log_evidence": -0.5, "log_evidence_needed": 7.6}
        with self.control.change() as tx:
            under_way = tx.serving().rollout
            assert under_way is not None
            look = {"action": "wait", "units": units, "metrics": [row | counts], "sample_ratio": [ratio]}
            tx.save_look(RolloutLook(under_way.id, 1, look))

    def _take_in(self) -> None:
        streams.observe_events([(turn("t1"), turn("t1").occurred_at_us + 2_000_000)], "turns.served")
        thumb = rating("r1", "t1", "thumbs", True)
        streams.observe_events([(thumb, thumb.occurred_at_us + 90_000_000)], "ratings.given")
        streams.DEAD_LETTERS.labels(reason="missing_field").inc()
        streams.REPLACED_SURROGATES.inc()
        streams.LAG.labels(topic="turns.served", group="trimtab-ingest").set(3 * self.seen)
        for hop in ("events", "requests"):
            streams.HOP_SECONDS.labels(hop=hop).observe(0.02)
        streams.FACTS_COMMITS.inc()
        streams.FACTS_ROWS.labels(table="turns").inc(2)
        streams.FACTS_COMMIT_SECONDS.observe(0.05)

    def _judge(self) -> None:
        streams.ROUTED.labels(kind="reply").inc(2)
        streams.JUDGE_SECONDS.observe(1.5)
        streams.JUDGE_UP.set(1)
        streams.observe_judgement(verdict("v1", "t1", cost_usd=0.01, prompt_tokens=900, completion_tokens=60))
        streams.observe_judgement(unjudged("v2", "t2", "budget_hour"))
        for period in ("hour", "day"):
            streams.JUDGE_BUDGET_REMAINING_USD.labels(period=period).set(1.25)

    def _serve(self) -> None:
        for arm, code in (("incumbent", "200"), ("candidate", "200"), ("candidate", "503")):
            serving.CHAT_REQUESTS.labels(code=code, arm=arm).inc()
            serving.CHAT_SECONDS.labels(arm=arm).observe(0.8)
        serving.CHAT_FIRST_TOKEN_SECONDS.observe(0.2)
        serving.FEEDBACK.labels(kind="thumbs", outcome="accepted").inc()
        serving.SHADOW_PAIRS.inc()
        serving.SHADOW_SKIPPED.labels(reason="asked_before").inc()
        serving.SHADOW_FAILED.labels(reason="too_slow").inc()
        serving.TURNS_LOST.inc()
        serving.TURNS_ABORTED.inc()
        serving.SPOOL_RECORDS.set(2)
        serving.SPOOL_BYTES.set(2_000)
        serving.SPOOL_LIMIT_BYTES.set(1_000_000)
        serving.SPOOL_OLDEST_SECONDS.set(3)
        serving.SPOOL_REFUSED.inc()
        roles.DISK_FREE_BYTES.set(90_000_000_000)
        roles.DISK_BYTES.set(100_000_000_000)
        engine.ADAPTER_LOAD_FAILURES.labels(role="incumbent").inc()
        engine.ADAPTER_INFO.labels(adapter="tt-0123456789abcdef", role="incumbent").set(1)


def _now_us() -> int:
    return time.time_ns() // 1_000


async def main(folder: Path) -> None:
    loop = Loop(folder)
    app = admin_app(lambda: None)

    @app.middleware("http")
    async def then_more_happens(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        await asyncio.to_thread(loop.happen)
        return await answer(request)

    stop = asyncio.Event()
    listening = listen("127.0.0.1", 0)
    served = asyncio.create_task(serve(app, listening, stop, 1.0, CLOCK))
    print(listening.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await served


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
