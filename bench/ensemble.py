"""Does the spread of a reward model's ensemble say where it errs: today's heads beside separate LoRAs and other bootstraps.

    python -P bench/ensemble.py [--base tiny|smollm2] [--kind TEXT ...] [--folds 3] [--snapshot DIRECTORY] [--state DIRECTORY]
                                [--quick] [--json FILE]

The sample log's labels and pairs, a fold of conversations held out each time: each is held out once, a quarter of a fold
calibrates, and the figures are of all that is held out (bench/ensembles/figures.py says what they mean). Intervals are over
conversations. Seconds are those of training and of scoring, memory is this process's peak while it trained, each as a ratio
to today's within the same fold. SmolLM2 learns as in `make run`: 160 labels, one epoch, its last ten layers. Without
--snapshot the log is sealed by `trimtab replay --no-train`, and without --state the base is made anew. --quick: one fold of
`tiny`, 64 labels, to show that it works.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench.ensembles.figures import FIGURES, Held, difference, estimate  # noqa: E402
from bench.ensembles.members import KINDS, Ensemble  # noqa: E402
from bench.learning.sample_log import sealed  # noqa: E402
from deploy.training.base import QUICK  # noqa: E402
from feedback.records import PreferencePair, Split, UnpairedLabel  # noqa: E402
from models.bases import SMOLLM2, TINY, Base, find_base  # noqa: E402
from models.lengths import MOST, fit_lengths  # noqa: E402
from models.loading import load_chat  # noqa: E402
from models.rendered import rendered_only  # noqa: E402
from models.reward import encode, fit_platt, sigmoid  # noqa: E402
from models.settings import BaseModelSettings, RewardSettings, TinySettings  # noqa: E402
from models.smollm2 import install_smollm2  # noqa: E402
from models.snapshot import SnapshotData, read_snapshot  # noqa: E402
from models.tiny import train_tiny  # noqa: E402

TODAY = next(iter(KINDS))
SETTINGS = {TINY: RewardSettings(), SMOLLM2: RewardSettings(**QUICK["reward"])}
FEW = RewardSettings(max_labels=64, epochs=1, batch_size=8)


@dataclass(frozen=True)
class Trial:
    """What there is of one kind and fold."""

    train_s: float
    score_s: float
    peak_bytes: int
    labels: Held
    pairs: Held


def base_of(name: str, data: SnapshotData, state: Path) -> Base:
    """The base, fetched or trained where the state does not have it."""
    if name == SMOLLM2:
        return install_smollm2(state, lambda here, of: None)
    settings, tiny, work = BaseModelSettings(name=TINY), TinySettings(), state / "work-tiny"
    work.mkdir(parents=True, exist_ok=True)
    found = find_base(settings, tiny, state)
    return found or train_tiny(data.turns, settings, tiny, state, work, lambda here, of: None)


def split_of(conversation: str, fold: int, folds: int) -> Split:
    """Each conversation is held out of one fold's training; a quarter of those calibrates."""
    number = int.from_bytes(hashlib.sha256(f"fold{conversation}".encode()).digest()[:4])
    if number % folds != fold:
        return "train"
    return "gate" if (number // folds) % 4 else "calibrate"


def folded(data: SnapshotData, fold: int, folds: int) -> SnapshotData:
    """The same labels and pairs in other splits."""

    def again(rows: Sequence[Any]) -> list[Any]:
        return [msgspec.structs.replace(x, split=split_of(x.conversation_id, fold, folds)) for x in rows]

    return msgspec.structs.replace(data, pairs=again(data.pairs), labels=again(data.labels))


def attempt(kind: str, fold: int, folds: int, snapshot: Path, base: Base, settings: RewardSettings) -> Trial:
    """Train this kind without the fold, and score the fold; in a process of its own, for its memory's sake."""
    _prepare()
    chat = load_chat(base, None)
    data, _ = rendered_only(read_snapshot(snapshot), chat, MOST)
    data, lengths = fit_lengths(chat, data, base, None)
    data = folded(data, fold, folds)
    examples = [x for rows in (data.pairs, data.labels) for x in rows if x.split == "train" and x.weight > 0]
    newest = sorted(examples, key=lambda x: (-x.provenance.at_us, x.id))[: settings.max_labels]
    examples = sorted(newest, key=lambda x: not isinstance(x, PreferencePair))  # in the order of a real training's
    ensemble = Ensemble(base, KINDS[kind], settings, fold + 1)
    with tempfile.TemporaryDirectory() as work:
        train_s = ensemble.fit(examples, chat, lengths.max_length, Path(work))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pairs = [x for x in data.pairs if x.split != "train" and x.preference != 0.5]
    labels = [x for x in data.labels if x.split != "train" and x.desirable != 0.5]
    rows = [encode(chat, x.prompt, [x.chosen, x.rejected], lengths.max_length) for x in pairs]
    rows += [encode(chat, x.prompt, [x.reply], lengths.max_length) for x in labels]
    start = time.perf_counter()
    scores = ensemble.score(rows, chat).numpy()
    score_s = time.perf_counter() - start
    both, single = scores[: 2 * len(pairs)].reshape(len(pairs), 2, -1), scores[2 * len(pairs) :]
    return Trial(train_s, score_s, peak_bytes, *held(labels, single, pairs, both))


def held(
    labels: Sequence[UnpairedLabel], rewards: np.ndarray, pairs: Sequence[PreferencePair], both: np.ndarray
) -> tuple[Held, Held]:
    """Labels and pairs with what the mean member, calibrated on the calibrate split, says of what people said.

    Rewards are [labels, members] and [pairs, 2, members]: of chosen and rejected.
    """
    chosen_first = np.array([1.0 if x.preference > 0.5 else -1.0 for x in pairs])
    margins, worth = both[:, 0] - both[:, 1], both.mean(axis=2) - both.std(axis=2)
    single, margin = rewards.mean(axis=1).tolist(), margins.mean(axis=1).tolist()
    points = [(r, 1.0, x.desirable, x.weight) for r, x in zip(single, labels, strict=True) if x.split == "calibrate"]
    points += [(m, 0.0, x.preference, x.weight) for m, x in zip(margin, pairs, strict=True) if x.split == "calibrate"]
    platt = fit_platt(points)
    wanted = [(platt.wanted(r), x.desirable) for r, x in zip(single, labels, strict=True)]
    better = [(sigmoid(platt.slope * m), x.preference) for m, x in zip(margin, pairs, strict=True)]
    return (
        Held([x.conversation_id for x in labels], rewards, _said(wanted), np.full(len(labels), np.nan)),
        Held([x.conversation_id for x in pairs], margins, _said(better), chosen_first * (worth[:, 0] - worth[:, 1])),
    )


def _said(found: Sequence[tuple[float, float]]) -> np.ndarray:
    """What was left of certainty: 1 less the distance of probability and label; above a half on the label's side."""
    return np.array([p if y > 0.5 else 1 - p for p, y in found])


def table(trials: dict[str, list[Trial]], resamples: int) -> Table:
    """A row for each kind, labels above pairs."""
    shown = Table(title="held-out labels (above) and pairs (below), 95% intervals over conversations")
    for column in ("kind", *FIGURES, "training", "scoring", "memory"):
        shown.add_column(column, overflow="fold")
    for kind, found in trials.items():
        both = ([trial.labels for trial in found], [trial.pairs for trial in found])
        cells = ["\n".join(str(estimate(figure, folds, resamples)) for folds in both) for figure in FIGURES.values()]
        shown.add_row(kind, *cells, *_costs(found, trials[TODAY]))
    return shown


def _costs(found: Sequence[Trial], today: Sequence[Trial]) -> list[str]:
    return [
        f"{np.mean([getattr(a, cost) / getattr(b, cost) for a, b in zip(found, today, strict=True)]):.2f}"
        for cost in ("train_s", "score_s", "peak_bytes")
    ]


def lines(trials: dict[str, list[Trial]], resamples: int) -> list[str]:
    """Each other kind's figures less today's, on the same draws."""
    said = []
    for kind, found in trials.items():
        for what in ("labels", "pairs") if kind != TODAY else ():
            mine, theirs = ([getattr(trial, what) for trial in side] for side in (found, trials[TODAY]))
            figures = (f"{name} {difference(f, mine, theirs, resamples)}" for name, f in FIGURES.items())
            said.append(f"{kind}, {what}, less today's: " + "; ".join(figures))
    return said


def _prepare() -> None:
    warnings.filterwarnings("ignore")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=(TINY, SMOLLM2), default=TINY)
    parser.add_argument(
        "--kind", nargs="*", default=[""], metavar="TEXT", help="those whose name has one of these in it"
    )
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--snapshot", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    name, settings = (TINY, FEW) if chosen.quick else (chosen.base, SETTINGS[chosen.base])
    kinds = [kind for kind in KINDS if kind == TODAY or any(text in kind for text in chosen.kind)]
    with tempfile.TemporaryDirectory() as temporary:
        work, trials = Path(temporary), dict[str, list[Trial]]({kind: [] for kind in kinds})
        snapshot = sealed(chosen.snapshot, work)
        base = base_of(name, read_snapshot(snapshot), chosen.state or work)
        for fold in range(1 if chosen.quick else chosen.folds):  # kinds alternate, so that a busy machine slows all
            for kind in kinds:
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    trial = alone.apply(attempt, (kind, fold, chosen.folds, snapshot, base, settings))
                trials[kind].append(trial)
                print(f"fold {fold}, {kind}: trained in {trial.train_s:.0f} s, scored in {trial.score_s:.1f} s",
                      file=sys.stderr, flush=True)  # fmt: skip
    Console(width=200).print(table(trials, chosen.resamples))
    print("\n".join(lines(trials, chosen.resamples)))
    if chosen.json:
        chosen.json.write_text(json.dumps({kind: [_plain(t) for t in found] for kind, found in trials.items()}))
    return 0


def _plain(trial: Trial) -> dict[str, Any]:
    both = {
        what: {"rewards": side.rewards.tolist(), "said": side.said.tolist(), "conversations": list(side.conversations)}
        for what, side in (("labels", trial.labels), ("pairs", trial.pairs))
    }
    return {"train_s": trial.train_s, "score_s": trial.score_s, "peak_bytes": trial.peak_bytes, **both}


if __name__ == "__main__":
    sys.exit(main())
