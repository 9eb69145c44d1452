"""Does a training learn what people wish, beside TRL's DPO with the same data and budget, and what does it forget?

    python -P bench/learns.py [--base tiny smollm2] [--wish shorter question number] [--seeds 0 1 2] [--minutes N]
                              [--small] [--epochs N] [--work DIRECTORY] [--json FILE]

Three wishes: shorter replies, replies that end in a question, replies that name the order's number. For each the base
answers prompts of the sample log, a program with that wish picks between two of its answers (bench/learning/wishes.py),
and both train on these pairs. Then base, ours and TRL's answer prompts of other customers: effects are differences to the
base, with intervals; facts are models/facts.py's 24, asked greedily, and the gate says whether it would hold ours.

Each result is a file in --work: stopped, at --minutes or by a kill, it goes on there. Several may share it, each with a wish
of its own; --minutes 0 shows what there is. TRL is needed for this only: pip install -r requirements-bench.lock.
Without --base it is `tiny`. SmolLM2 is fetched once (93 MB) and wants a GPU, where a trial takes one to two minutes. With
--small a trial takes five to ten minutes on one core without bf16: start one with --threads 1 for each core. Few samples
differ in whether they name a number, so that wish wants --epochs 3 there.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.learning.prompts import choose, read_turns  # noqa: E402
from bench.learning.trainings import TRAININGS  # noqa: E402
from bench.learning.trial import Sizes, Trials  # noqa: E402
from bench.learning.verdicts import Line, Verdict, judge, summarise  # noqa: E402
from bench.learning.wishes import WISHES  # noqa: E402
from models.bases import SMOLLM2, TINY, Base, find_base  # noqa: E402
from models.loading import load_chat  # noqa: E402
from models.sampling import Sampled  # noqa: E402
from models.settings import BaseModelSettings, TinySettings  # noqa: E402
from models.smollm2 import install_smollm2  # noqa: E402
from models.tiny import train_tiny  # noqa: E402

_FEW_ROWS, _MANY_ROWS = 64, 1_024  # sampled at once: more are slower on a processor, and cost a GPU nothing
SIZES = {
    TINY: Sizes(
        pairs=192, batch=8, epochs=3, train_prompts=240, train_samples=4, held_out=96, samples=4, tokens=48, length=256,
        languages=None,
    ),
    SMOLLM2: Sizes(
        pairs=192, batch=8, epochs=3, train_prompts=288, train_samples=4, held_out=96, samples=4, tokens=160, length=512,
        languages=("en",),
    ),
}  # fmt: skip
SMALL = {
    TINY: replace(SIZES[TINY], pairs=96, train_prompts=120, held_out=48, samples=2),
    SMOLLM2: replace(
        SIZES[SMOLLM2],
        pairs=32,
        batch=4,
        epochs=2,
        train_prompts=64,
        train_samples=3,
        held_out=32,
        samples=2,
        tokens=96,
    ),
}


def prepare(name: str, sizes: Sizes, work: Path) -> Trials:
    """A base, fetched or trained once, with its prompts."""
    turns = read_turns()
    base = _base(name, work / "state")
    train, held_out = choose(turns, sizes.languages, sizes.train_prompts, sizes.held_out)
    return Trials(base, load_chat(base, None), sizes, train, held_out, _rows(), work, tell)


def _rows() -> int:
    return _MANY_ROWS if torch.cuda.is_available() else _FEW_ROWS


def _base(name: str, state: Path) -> Base:
    settings, tiny = BaseModelSettings(name=name), TinySettings()
    if name == SMOLLM2:
        return install_smollm2(state, lambda here, of: None)
    known = find_base(settings, tiny, state)
    if known is not None or name != TINY:
        assert known is not None
        return known
    work = state / "tiny"
    work.mkdir(parents=True, exist_ok=True)
    return train_tiny(read_turns(), settings, tiny, state, work, lambda n, of: tell(f"tiny base: step {n} of {of}"))


def run(trials: Sequence[Trials], wishes: Sequence[str], seeds: Sequence[int], until: float) -> bool:
    """Seed by seed, so that what there is can be compared; False where the time was up before all was done."""
    for seed in seeds:
        for base in trials:
            for wish in wishes:
                for method in TRAININGS:
                    if time.monotonic() > until:
                        return False
                    base.run(wish, seed, method)
    return True


def lines_of(trials: Trials, wish: str, seeds: Sequence[int]) -> dict[str, Line]:
    """By method, what the results in the folder say; methods without any are missing."""
    found = {}
    results = {method: _results(trials, wish, seeds, method) for method in TRAININGS}
    for method, after in results.items():
        if after:
            before = {seed: trials.own(seed)[1] for seed in after}
            arguments = (trials.base.name, WISHES[wish], method, trials.held_out, trials.tokens)
            found[method] = summarise(*arguments, before, after)
    return found


def _results(trials: Trials, wish: str, seeds: Sequence[int], method: str) -> dict[int, dict[str, Any]]:
    found = {}
    for seed in seeds:
        path = trials.path(wish, seed, method)
        if path.exists():
            result = json.loads(path.read_bytes())
            found[seed] = result | {"replies": msgspec.convert(result["replies"], list[list[Sampled]])}
    return found


def table(lines: Sequence[Line]) -> Table:
    """A row for each base, wish and method."""
    shown = Table(title="effect on held-out prompts: ours and TRL's DPO less the base, 95% intervals")
    for column in ("base", "wish (unit)", "method", "picks + edits", "base", "effect", "seeds above 0", "facts lost / gained",
                   "KL"):  # fmt: skip
        shown.add_column(column, overflow="fold")
    for line in lines:
        above = sum(effect.low > 0 for effect in line.by_seed.values())
        shown.add_row(
            line.base.split("-")[0], f"{line.wish} ({WISHES[line.wish].unit})", line.method,
            f"{_few(line.picks)} + {_few(line.edits)}", f"{line.before:.2f}", str(line.pooled),
            f"{above} of {len(line.by_seed)}", f"{_few(line.lost)} / {_few(line.gained)} of {_few(line.base_right)}",
            _few([round(kl, 2) for kl in line.neutral_kl]),
        )  # fmt: skip
    return shown


def _few(values: Sequence[float]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "/".join(map(str, values))


def sentence(verdict: Verdict) -> str:
    """Met, not met, or not known yet."""
    word = {True: "met", False: "NOT MET", None: "not known yet"}[verdict.met]
    return f"{word}: {verdict.base.split('-')[0]}, {verdict.wish}: {verdict.claim} ({verdict.why})"


def tell(text: str) -> None:
    """One line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Try, print; 1 where something is not met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", nargs="+", choices=list(SIZES), default=[TINY], help="SmolLM2 wants a GPU")
    parser.add_argument("--wish", nargs="+", choices=list(WISHES), default=list(WISHES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help="begin no trial after so many minutes, and show what there is")
    parser.add_argument(
        "--small", action="store_true", help="fewer pairs, prompts and tokens: for SmolLM2 without a GPU"
    )
    parser.add_argument("--epochs", type=int, help="passes over the pairs, instead of the base's")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--work", type=Path, default=Path(".bench-learns"), help="where results and bases are kept")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    start = time.monotonic()
    quiet(options.threads)
    sizes = SMALL if options.small else SIZES
    if options.epochs:
        sizes = {name: replace(size, epochs=options.epochs) for name, size in sizes.items()}
    trials = [prepare(name, sizes[name], options.work) for name in options.base]
    whole = run(
        trials, options.wish, options.seeds, start + (math.inf if options.minutes is None else 60 * options.minutes)
    )
    lines, verdicts = list[Line](), list[Verdict]()
    for base in trials:
        for wish in options.wish:
            found = lines_of(base, wish, options.seeds)
            lines += found.values()
            if "ours" in found:
                verdicts += judge(found["ours"], found.get("trl"), options.seeds, not base.base.tiny)
    show(lines, verdicts, whole)
    if options.json:
        kept = [asdict(replace(line, differences=line.differences.round(4).tolist())) for line in lines]
        document = {"lines": kept, "verdicts": [asdict(verdict) for verdict in verdicts]}
        options.json.write_text(json.dumps(document, indent=1))
    return int(any(verdict.met is False for verdict in verdicts))


def show(lines: Sequence[Line], verdicts: Sequence[Verdict], whole: bool) -> None:
    """The table and what it comes to."""
    console = Console(width=160)
    console.print(table(lines))
    for verdict in verdicts:
        console.print(sentence(verdict), highlight=False, markup=False)
    for line in lines:
        for seed, held in zip(line.by_seed, line.held, strict=True):
            for said in held:
                console.print(f"{line.method}, {line.wish}, seed {seed}: {said}", highlight=False, markup=False)
    if not whole:
        console.print("The time was up before all trials were done: run it again with the same --work, it goes on.")


def quiet(threads: int | None) -> None:
    """No warnings and progress bars of the libraries."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if threads:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
