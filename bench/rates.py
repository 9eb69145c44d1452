"""What learning rate, and how many layers: short trainings on SmolLM2 and the sample log, each with what came of it.

    python bench/rates.py [--reward 3e-4:10 1e-3:10] [--policy 2e-4:0 1e-3:12] [--labels 160] [--examples 128]

A setting is RATE:LAYERS, the last layers that are adapted (0: all). Of a reward model: seconds with its calibration, and
accuracy on the pairs of gate and calibration. Of a policy, learned from the log's labels only: seconds, in how many of 40 gate
replies the order's number is that was asked about, how far it went from the base on neutral questions (nats a token), and of
how many facts it lost the answer. One epoch each, in batches of eight. The same seed gives the same figures on one machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec import Struct

from bench.learning.sample_log import ROOT, sealed
from deploy.replay.compared import order_numbers
from deploy.training.base import QUICK
from feedback.statistics.intervals import wilson
from models.bases import Base
from models.chat import Chat
from models.evaluate import load_policies
from models.job import prepare_torch
from models.lengths import MOST, fit_lengths
from models.loading import load_chat
from models.policy import choose_examples, train_policy
from models.rendered import rendered_only
from models.retention import measure_retention
from models.reward import encode, train_reward
from models.sampling import choose_prompts, sample
from models.settings import PolicySettings, RewardSettings
from models.smollm2 import install_smollm2
from models.snapshot import SnapshotData, read_snapshot

KEPT = ROOT / ".make" / "real"
PROMPTS, TOKENS, SEED, THREADS = 40, 96, 5, 2
SHORT = {name: QUICK["reward"][name] for name in ("epochs", "batch_size")}


class Sample(Struct, frozen=True):
    """The base, and the sample log as it is trained on."""

    base: Base
    chat: Chat
    data: SnapshotData
    max_length: int


def read_log(work: Path) -> Sample:
    """SmolLM2 is kept where `make real` keeps it."""
    base = install_smollm2(KEPT, lambda *_: None)
    chat = load_chat(base, "2026-01-01")
    data, _ = rendered_only(read_snapshot(sealed(work)), chat, MOST)
    data, lengths = fit_lengths(chat, data, base, None)
    return Sample(base, chat, data, lengths.max_length)


def reward(log: Sample, settings: RewardSettings, work: Path) -> str:
    """Seconds, and accuracy on held-out pairs."""
    began = time.perf_counter()
    judge = train_reward(log.data, log.base, log.chat, settings, log.max_length, work, lambda *_: None)
    seconds = time.perf_counter() - began
    held_out = [pair for pair in log.data.pairs if pair.split != "train" and pair.preference > 0.5]
    rows = [encode(log.chat, pair.prompt, [pair.chosen, pair.rejected], log.max_length) for pair in held_out]
    rewards = judge.score(rows).mean
    right = sum(chosen > rejected for chosen, rejected in zip(rewards[::2], rewards[1::2], strict=True))
    return f"{seconds:4.0f} s   {share(right, len(held_out))} of {len(held_out)} pairs right"


def policy(log: Sample, settings: PolicySettings, work: Path) -> str:
    """Seconds, order numbers, distance and facts."""
    began = time.perf_counter()
    examples = choose_examples(log.data, [], settings.max_examples)
    adapter = train_policy(log.base, log.chat, examples, settings, log.max_length, work, lambda *_: None)
    seconds = time.perf_counter() - began
    model = load_policies(log.base, adapter, None)
    turns = choose_prompts(log.data.turns, "gate", len(log.data.turns))[:PROMPTS]
    prompts = [log.chat.prompt(turn.prompt, log.max_length - TOKENS) for turn in turns]
    ours = sample(model, log.chat, prompts, 1, TOKENS, SEED)
    with model.disable_adapter():
        theirs = sample(model, log.chat, prompts, 1, TOKENS, SEED)
    numbers = order_numbers(
        [
            {"prompt": turn.prompt, "candidate": a.text, "incumbent": b.text}
            for turn, a, b in zip(turns, ours, theirs, strict=True)
        ]
    )
    kept = measure_retention(model, log.chat, [], log.max_length)
    assert numbers is not None
    return (
        f"{seconds:4.0f} s   number named {share(numbers.candidate.named, numbers.prompts)} (base "
        f"{share(numbers.incumbent.named, numbers.prompts)}) of {numbers.prompts}   "
        f"KL {kept.neutral_kl:.3f}   facts {kept.facts.base_right} -> {kept.facts.candidate_right}, lost {len(kept.facts.lost)}"
    )


def share(count: int, of: int) -> str:
    """With its 95% interval."""
    low, high = wilson(count / of, of, 0.975)
    return f"{count / of:.2f} [{low:.2f}, {high:.2f}]"


def setting(text: str) -> dict[str, Any]:
    """Of RATE:LAYERS."""
    rate, _, layers = text.partition(":")
    return {"learning_rate": float(rate), "lora_layers": int(layers or 0) or None}


def main() -> None:
    """Prints a line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", nargs="*", default=["3e-4:10", "1e-3:10"], metavar="RATE:LAYERS")
    parser.add_argument("--policy", nargs="*", default=["2e-4:12", "1e-3:12", "1e-3:15"], metavar="RATE:LAYERS")
    parser.add_argument(
        "--labels", type=int, default=QUICK["reward"]["max_labels"], help="of the reward model [default: 160]"
    )
    parser.add_argument(
        "--examples", type=int, default=QUICK["policy"]["max_examples"], help="of the policy [default: 128]"
    )
    given = parser.parse_args()
    prepare_torch(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        log = read_log(work / "state")
        for text in given.reward:
            rewarding = RewardSettings(max_labels=given.labels, **SHORT, **setting(text))
            print(f"reward {text:>9}  {reward(log, rewarding, work / f'reward-{text}')}", flush=True)
        for text in given.policy:
            steering = PolicySettings(max_examples=given.examples, **SHORT, **setting(text))
            print(f"policy {text:>9}  {policy(log, steering, work / f'policy-{text}')}", flush=True)


if __name__ == "__main__":
    main()
