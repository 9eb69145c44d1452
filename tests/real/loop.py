"""The loop on a real chat model and a real engine, as a team would turn it: `make real`.

    python -m tests.real.loop
    python -m tests.real.loop --base tiny --json figures.json

The sample log goes in, a candidate is trained on SmolLM2, the gate holds it, a person overrides that, a vLLM server
serves it to a share of the customers who chat and rate, and the service trains the next candidate on what they said.
Everything goes through `trimtab` commands and the service's port. docs/real-loop.md has what it prints.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import httpx
import pytest
from rich.console import Console

from deploy.gateway.chat import BASE
from deploy.rules.names import short
from deploy.settings import load_settings
from deploy.training.base import QUICK
from feedback.dataset import snapshot
from feedback.facts.reader import Facts
from models.adapters import engine_name
from models.bases import SMOLLM2, TINY, find_base
from models.processor import has_bf16
from tests.deploy.commands import ROOT, SAMPLE, environment
from tests.engine.server import PYTHON, SERVED_AS, SLOTS, vllm
from tests.real import figures
from tests.real.customers import TURNS_EACH, Rated, arms, chat, fresh_orders, questions
from tests.real.phases import Phases
from tests.real.team import LoopFailed, Team

USERS = 48
WIDTH = 120
"""Columns, where nobody's terminal says how many."""
ALLOWED_S = 40 * 60.0
PROVED_WITHIN_S, TRAINED_WITHIN_S, FACTS_WITHIN_S = 600.0, 3_000.0, 120.0
KEPT = ROOT / ".make" / "real"
"""Where the base is fetched and converted once, as for `pytest tests/real`."""

SETTINGS = """\
[window]
max_age_s = 3153600000  # the sample log stays of the year in which it was made
[train]
every_s = 0
min_new_verdicts = 0
min_new_human_labels = {ratings}  # the service trains by itself once all customers have rated
check_every_s = 5
[rollout]
shares = [0.5, 1.0]  # half: few customers show something of both
"""
TRAINING: dict[str, dict[str, dict[str, Any]]] = {
    SMOLLM2: {"base": {"name": SMOLLM2}, **QUICK},
    TINY: {
        "base": {"name": TINY},
        "tiny": {"vocabulary": 400, "layers": 2, "width": 64, "steps": 60, "batch_tokens": 600},
        "reward": {"max_labels": 200, "epochs": 1},
        "policy": {"max_examples": 100, "epochs": 1, "best_of_prompts": 16, "sample_tokens": 24},
    },
}
ENGINE = """\
[engine]
kind = "vllm"
urls = ["{url}/v1"]
model = "{model}"
max_loras = {slots}
"""
EXPECTED = (LoopFailed, httpx.HTTPError, pytest.fail.Exception)
"""Errors that say in a sentence what did not come about."""
NO_COMPARISONS = (
    "This version makes no blind comparisons, so its gate can only hold or reject: until it does, a person's "
    "--override-hold stands in for them"
)


@dataclass
class Run:
    """One turn of the loop, part by part; each raises LoopFailed where something does not come about."""

    base: str
    team: Team
    told: Phases
    console: Console

    @property
    def config(self) -> Path:
        return self.team.folder / "trimtab.toml"

    def all(self) -> dict[str, Any]:
        """Turn it; returns the figures. Raises httpx.HTTPError, and what vLLM's start fails with, too."""
        phase = self.told.phase
        self.config.write_text(settings_of(self.base))
        with phase("sample log"):
            self.team.run("replay", "--no-train", SAMPLE)
        with phase("base"):
            self.bring_base()
        with phase("training"):
            self.team.run("train", "--reason", "the sample log")
        with phase("approval"):
            first = self.approve()
        with ExitStack() as stack:
            with phase("engine"):
                dtype = stack.enter_context(self.engine())
                url = stack.enter_context(self.team.up())
            with phase("canary"):
                self.promote(first["digest"])
            with phase("rated turns"):
                rated, tokens_per_s = self.rated(url, first["digest"])
            with phase("next training"):
                following = self.next_candidate(first["digest"])
        thumbs = self.learned_from(following["snapshot"], rated)
        self.team.say(f"of the {len(rated)} thumbs the next candidate's snapshot has {thumbs}")
        return {
            "base": first["report"]["base"]["name"],
            "engine": {"kind": "vllm", "dtype": dtype},
            "phases": self.told.document(),
            "seconds": self.told.seconds,
            "arms": [asdict(arm) for arm in arms(rated)],
            "tokens_per_s": tokens_per_s,
            "thumbs": {"given": len(rated), "in_next_snapshot": thumbs},
            "candidates": [figures.of_candidate(view) for view in (first, following)],
        }

    def bring_base(self) -> None:
        """SmolLM2 into the state directory, from where it is kept once it was fetched; `tiny` is trained, not brought."""
        if self.base != SMOLLM2:
            return
        command = [sys.executable, "-P", "-m", "models.smollm2", str(KEPT)]
        self.team.say(f"$ python -m models.smollm2 {KEPT.relative_to(ROOT)}")
        if subprocess.run(command, env=environment(), check=False).returncode != 0:
            raise LoopFailed("SmolLM2 can't be had, and it was said why")
        hidden = shutil.ignore_patterns(".*")
        shutil.copytree(KEPT / "bases", self.team.state / "bases", ignore=hidden, dirs_exist_ok=True)

    def approve(self) -> dict[str, Any]:
        """The only candidate, whatever holds it; what `show` says of it. What the gate rejects nobody can approve."""
        (listed,) = self.team.ask("candidates")
        view: dict[str, Any] = self.team.ask("show", listed["digest"])
        name, decision, reasons = short(view["digest"]), view["gate"]["decision"], "; ".join(view["gate"]["reasons"])
        self.team.say(f"the gate: {decision} ({reasons})")
        if decision == "reject":
            raise LoopFailed(f"the gate rejects {name}, so nobody can approve it: {reasons}")
        words = ["approve", name, "--evidence", view["evidence"]]
        if decision == "hold":
            self.team.say(f"overridden: the gate holds {name}, and nobody has read its samples. {NO_COMPARISONS}.")
            words += ["--override-hold"]
        self.team.run(*words, "--reason", "make real: to see the loop turn, not because it is good")
        return view

    @contextmanager
    def engine(self) -> Iterator[str]:
        """A vLLM server of the base, and the settings that name it; yields in what it computes."""
        settings = load_settings(self.config)
        base = find_base(settings.base, settings.tiny, self.team.state)
        if base is None:
            raise LoopFailed("the training left no base behind")
        dtype: Literal["bfloat16", "float32"] = "bfloat16" if has_bf16() and not base.tiny else "float32"
        folder = self.team.folder / "vllm"
        self.team.say(f"vLLM serves {base.path} in {dtype} (its log: {folder / 'vllm.log'})")
        with vllm(base, folder, dtype=dtype) as server:
            with self.config.open("a") as config:
                config.write(ENGINE.format(url=server.url, model=SERVED_AS, slots=SLOTS))
            yield dtype

    def promote(self, digest: str) -> None:
        """To its first share, once the server serves it; then what a person sees of it."""
        self.team.run("promote", "--reason", "a canary")
        self.team.wait(lambda: self._served(digest), f"vLLM to serve {engine_name(digest)}", PROVED_WITHIN_S, 10.0)
        self.team.run("status")

    def _served(self, digest: str) -> bool:
        replicas = self.team.ask("status")["engine"]["replicas"]
        for refused in (replica.get("refused", {}).get(engine_name(digest)) for replica in replicas):
            if refused:
                raise LoopFailed(f"vLLM's adapter is refused: {refused}")
        return any(engine_name(digest) in replica.get("served", ()) for replica in replicas)

    def rated(self, url: str, digest: str) -> tuple[list[Rated], float]:
        """What customers asked, got and rated, once all of it is among the facts; and all tokens per second."""
        asked = questions(USERS, fresh_orders(gzip.decompress(SAMPLE.read_bytes()).decode(errors="replace")))
        self.team.say(f"{USERS} customers ask {TURNS_EACH} questions each, such as: {asked[0][1].text}")
        began = time.monotonic()
        rated = chat(url, asked, self.team.say)
        tokens_per_s = sum(one.tokens for one in rated) / (time.monotonic() - began)
        if strange := {one.by for one in rated} - {BASE, digest}:
            raise LoopFailed(f"somebody else answered: {', '.join(strange)}")
        self._among_facts({one.turn_id: one for one in rated}, digest)
        figures.print_arms(self.console, arms(rated), tokens_per_s)
        return rated, tokens_per_s

    def _among_facts(self, ours: Mapping[str, Rated], digest: str) -> None:
        """Once every turn and its thumb is a fact; the turns have to be by whom their answers said."""
        facts = Facts(self.team.state / "facts")

        def whole() -> bool:
            rated = {rating.turn_id for rating, _ in facts.ratings() if rating.turn_id in ours}
            return len(rated) == len(ours) and len(by()) == len(ours)

        def by() -> dict[str, bool]:
            return {turn.turn_id: turn.policy == digest for turn, _ in facts.turns() if turn.turn_id in ours}

        self.team.wait(whole, "all turns and thumbs among the facts", FACTS_WITHIN_S)
        if wrong := [name for name, candidate in by().items() if candidate != (ours[name].by == digest)]:
            raise LoopFailed(f"{len(wrong)} turns are by another among the facts than their answers said: {wrong[0]}")

    def next_candidate(self, first: str) -> dict[str, Any]:
        """What the service trains by itself; what `show` says of it."""
        team = self.team
        started = team.wait(lambda: team.logged("training_started"), "the trainer to start by itself", FACTS_WITHIN_S)
        team.say(f"the service trains by itself, because: {started['reason']}")
        done = team.wait(self._trained, "the next candidate", TRAINED_WITHIN_S, 2.0)
        view: dict[str, Any] = team.ask("show", done)
        if view["digest"] == first:
            raise LoopFailed(f"the next training gave {done} again: nothing was learned from what was rated")
        team.say(f"next candidate {done}; the gate: {view['gate']['decision']} ({'; '.join(view['gate']['reasons'])})")
        return view

    def _trained(self) -> str | None:
        if failed := self.team.logged("training_failed"):
            raise LoopFailed(f"the next training failed: {failed['error']}")
        done = self.team.logged("training_done")
        return str(done["candidate"]) if done else None

    def learned_from(self, name: str, rated: Sequence[Rated]) -> int:
        """How many of these thumbs the snapshot has: of prompts that are nearly alike it keeps a few, of replies that were cut
        only thumbs down."""
        ours = {one.turn_id for one in rated}
        labels = snapshot.read(self.team.state / "snapshots" / name, "unpaired")
        return len({label.turn_id for label in labels if label.turn_id in ours})


def settings_of(base: str) -> str:
    """trimtab.toml until there is an engine."""
    lines = []
    for name, values in TRAINING[base].items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n" + SETTINGS.format(ratings=USERS * TURNS_EACH)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where the loop did not turn, or 130 where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base", choices=TRAINING, default=SMOLLM2, help="tiny: minutes, to see that this script works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args(arguments)
    if not PYTHON.exists():
        print("there is no vLLM: make vllm (about 6 GB)", file=sys.stderr)
        return 1
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    say = partial(console.print, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="trimtab-real-"))
    told = Phases(say, os.getpid())
    try:
        with _stoppable():
            document = Run(given.base, Team(folder, say), told, console).all()
    except KeyboardInterrupt:
        say(f"\nstopped in {told.where}; logs and state are in {folder}")
        return 130
    except BaseException as error:
        say(f"\nfailed in {told.where}: {error}\nlogs and state are in {folder}")
        if not isinstance(error, EXPECTED):
            raise
        return 1
    console.print()
    figures.print_phases(console, told.over, document["seconds"], ALLOWED_S)
    figures.print_candidates(console, document["candidates"])
    if given.json is not None:
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    shutil.rmtree(folder)
    return 0


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, once: what has been started is then ended in peace, whoever asks again."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
