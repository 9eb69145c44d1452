"""One trial: a base, a wish, a seed and a training; trained on pairs of the base's own samples, then asked held-out prompts.

Every result is a file, written once it is whole: what is there is not done again. The folder's name holds the base and the
sizes, so that results of other sizes never mix.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftModel

from bench.learning.prompts import Prompt
from bench.learning.trainings import TRAININGS
from bench.learning.wishes import WISHES, pick_pairs
from deploy.rules.gate import decide
from deploy.rules.reasons import sentence
from deploy.rules.weighing import Comparisons
from deploy.settings import GateSettings
from feedback.durable import write_json
from models.bases import Base
from models.chat import Chat
from models.cutting import prompt_room
from models.facts import FACTS
from models.loading import load_causal
from models.retention import measure_retention
from models.sampling import Sampled, sample
from models.settings import PolicySettings

Tell = Callable[[str], None]
Samples = list[list[Sampled]]
_KL_PROMPTS = 24


@dataclass(frozen=True)
class Sizes:
    """How much is tried: pairs at most, how they are learned, prompts that train and that are held out, samples, tokens."""

    pairs: int
    batch: int
    epochs: int
    train_prompts: int
    train_samples: int
    held_out: int
    samples: int
    tokens: int
    length: int
    languages: tuple[str, ...] | None
    """Of the prompts; None: all four of the log."""


@dataclass
class Trials:
    """All trials of one base."""

    base: Base
    chat: Chat
    sizes: Sizes
    train: Sequence[Prompt]
    held_out: Sequence[Prompt]
    rows: int
    """Replies that are sampled at once."""
    work: Path
    tell: Tell

    @property
    def folder(self) -> Path:
        """Of results."""
        return self._folder(asdict(self.sizes))

    @property
    def _samples(self) -> Path:
        """Of the base's own samples, which are the same however they are learned from."""
        return self._folder({k: v for k, v in asdict(self.sizes).items() if k not in ("pairs", "batch", "epochs")})

    def _folder(self, sizes: dict[str, Any]) -> Path:
        content = json.dumps([self.base.revision, sizes], sort_keys=True)
        return self.work / f"{self.base.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def tokens(self, text: str) -> int:
        """Tokens of a text for this base."""
        return len(self.chat.content(text))

    def path(self, wish: str, seed: int, method: str) -> Path:
        """Where a trial's result is kept."""
        return self.folder / f"{wish}-{seed}-{method}.json"

    def own(self, seed: int) -> tuple[Samples, Samples]:
        """The base's own samples: to the prompts that train and to those held out."""
        path = self._samples / f"base-{seed}.json"
        with self._alone(path):
            self._sample_own(path, seed)
        train, held_out = msgspec.convert(json.loads(path.read_bytes()), list[Samples])
        return train, held_out

    def _sample_own(self, path: Path, seed: int) -> None:
        if not path.exists():
            start, model = time.monotonic(), load_causal(self.base.path)
            found = [
                self._sample(model, self.train, self.sizes.train_samples, 2 * seed),
                self._sample(model, self.held_out, self.sizes.samples, 2 * seed + 1),
            ]
            self._write(path, msgspec.to_builtins(found))
            self.tell(f"{self.base.name}, seed {seed}: the base's own samples, {time.monotonic() - start:.0f} s")

    def run(self, wish: str, seed: int, method: str) -> None:
        """Do this trial unless it is done."""
        path = self.path(wish, seed, method)
        if path.exists():
            return
        start = time.monotonic()
        pairs = pick_pairs(WISHES[wish], self.train, self.own(seed)[0], self.tokens, self.sizes.pairs)
        settings = PolicySettings(seed=seed, batch_size=self.sizes.batch, epochs=self.sizes.epochs)
        folder = path.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        adapter = TRAININGS[method](
            self.base, self.chat, pairs, settings, self.sizes.length, folder, lambda _, __: None
        )
        trained = time.monotonic()
        result = self._ask(adapter, seed) | {
            "picks": sum(pair.how == "pick" for pair in pairs),
            "edits": sum(pair.how == "edit" for pair in pairs),
            "train_s": round(trained - start, 1),
            "seconds": round(time.monotonic() - start, 1),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        }
        self._write(path, result)
        shutil.rmtree(folder)
        self.tell(
            f"{self.base.name}, {wish}, seed {seed}, {method}: {result['picks']} picks and {result['edits']} edits learned in "
            f"{result['train_s']:.0f} s, all in {result['seconds']:.0f} s"
        )

    def _ask(self, adapter: Path, seed: int) -> dict[str, Any]:
        model: Any = PeftModel.from_pretrained(load_causal(self.base.path), str(adapter)).eval()
        replies = self._sample(model, self.held_out, self.sizes.samples, 2 * seed + 1)
        firsts = [(p.turn.prompt, group[0]) for p, group in zip(self.held_out, replies, strict=True) if group[0].text]
        kept = measure_retention(model, self.chat, firsts[:_KL_PROMPTS], self.sizes.length, FACTS)
        retention = msgspec.to_builtins(kept)
        return {"replies": msgspec.to_builtins(replies), "retention": retention, "held": held_by_retention(retention)}

    def _sample(self, model: Any, prompts: Sequence[Prompt], count: int, seed: int) -> Samples:
        """`count` replies to each; prompts of like length go together, and the same seed gives every model the same chance."""
        at_once, most = max(1, self.rows // count), self.sizes.tokens
        room = prompt_room(self.sizes.length, most)
        ids = [self.chat.prompt(prompt.turn.prompt, room) for prompt in prompts]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        found: dict[int, list[Sampled]] = {}
        for first in range(0, len(order), at_once):
            part = order[first : first + at_once]
            flat = sample(model, self.chat, [ids[n] for n in part], count, most, 1_000 * seed + first)
            found |= {n: flat[i * count : (i + 1) * count] for i, n in enumerate(part)}
        return [found[n] for n in range(len(ids))]

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Others who want the same file wait."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)


def held_by_retention(retention: dict[str, Any]) -> list[str]:
    """The gate's sentences on what was forgotten, at its default limits; none where it is content."""
    nothing = {"mean_tokens": None}
    report = {
        "sample_stats": {"candidate": nothing, "incumbent": nothing},
        "probes": {"largest_difference": 1.0},
        "retention": retention,
    }
    decision = decide(report, GateSettings(), Comparisons(), None)
    return [sentence(reason) for reason in decision.reasons if reason.code in ("retention_kl", "retention_facts")]
