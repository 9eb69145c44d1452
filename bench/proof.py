"""How often an engine's proof (models/proof.py) refuses the right adapter, and accepts a wrong one.

    python bench/proof.py [--adapters 100] [--work DIR]                               torch, in float32 and in bfloat16
    python bench/proof.py --work DIR --vllm http://127.0.0.1:8000 --name "bfloat16"   a vLLM that serves DIR/base

For each of the right adapters a record is made, as at training. Then an engine scores base, right adapter, and one wrong
one: another candidate's weights (of other data), the same data with another seed, one layer of four not applied, two layers
exchanged, one kind of module not applied, none of it applied, or its alpha another. The adapters are ten trained ones, of 8
to 30 steps, each with its modules' strengths shaken by half. Last come small changes: noise on the weights, and one
layer at a part of its strength. A vLLM is asked as the gateway asks it. What is prepared stays in the work directory, so that
all engines get the same.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import random
import re
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402
import msgspec  # noqa: E402
import torch  # noqa: E402
from peft import get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from deploy.engine.vllm.proving import score_on  # noqa: E402
from deploy.engine.vllm.replica import Replica  # noqa: E402
from feedback.clock import SystemClock  # noqa: E402
from feedback.dataset.tables import ServedTurn  # noqa: E402
from feedback.durable import canonical, write_json  # noqa: E402
from feedback.records import Demonstration, Provenance  # noqa: E402
from models.adapters import CONFIG, WEIGHTS, adapter_config  # noqa: E402
from models.bases import Base, describe  # noqa: E402
from models.chat import Chat  # noqa: E402
from models.loading import load_causal, load_chat, pad_id  # noqa: E402
from models.policy import policy_loss, tensors, with_policy_lora  # noqa: E402
from models.probes import choose_probes, encode_probe, measure, score  # noqa: E402
from models.proof import UNIT, NotProven, Proven, Record, Scores, powers, prove  # noqa: E402
from models.settings import BaseModelSettings, PolicySettings, TinySettings  # noqa: E402
from models.tiny import train_tiny  # noqa: E402

State = dict[str, torch.Tensor]
LENGTH, RANK, TRAINED = 256, 16, 10
TINY = TinySettings(steps=150, batch_tokens=800)
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOISES = (0.01, 0.03, 0.1, 0.3)
EDGES = (2.5, 5.0, 7.5, 10.0, 15.0, 1e9)
STRENGTHS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.05)


def read_turns() -> list[ServedTurn]:
    """The example log's turns; every fifth conversation is of the gate split."""
    with gzip.open(ROOT / "examples" / "support.jsonl.gz", "rt", encoding="utf-8") as file:
        events = [event for line in file if (event := _event(line)).get("event") == "turn"]
    return [
        ServedTurn(
            turn_id=event["turn_id"],
            conversation_id=event["conversation_id"],
            tenant="default",
            split="gate" if int(re.sub(r"\D", "", event["conversation_id"]) or 0) % 5 == 0 else "train",
            prompt=event["messages"],
            reply=event["reply"],
            locale=event.get("locale"),
            policy="base",
            occurred_at_us=number,
        )
        for number, event in enumerate(events)
        if event.get("messages") and isinstance(event.get("reply"), str) and event["reply"].strip()
    ]


def _event(line: str) -> dict[str, Any]:
    """Of the example's blemishes nothing."""
    with suppress(ValueError):
        if isinstance(event := json.loads(line), dict):
            return event
    return {}


def prepare(work: Path, turns: Sequence[ServedTurn]) -> tuple[Base, list[State]]:
    """The base `work`/base and the trained adapters; pairs of them are of the same data."""
    if not (work / "base").exists():
        with tempfile.TemporaryDirectory() as folder:
            made = train_tiny(
                turns, BaseModelSettings(max_length=LENGTH), TINY, Path(folder), Path(folder), said("base")
            )
            Path(made.path).rename(work / "base")
    base = describe(work / "base", "tiny-bench")
    chat = load_chat(base)
    for number in range(TRAINED):
        if not (path := work / f"trained-{number}.safetensors").exists():
            save_file(train_adapter(base, chat, turns, number), path)
            said("adapters")(number + 1, TRAINED)
    return base, [load_file(work / f"trained-{number}.safetensors") for number in range(TRAINED)]


def train_adapter(base: Base, chat: Chat, turns: Sequence[ServedTurn], number: int) -> State:
    """A few steps of imitation of a quarter of the turns, at rates from timid to bold."""
    model = with_policy_lora(load_causal(base.path), PolicySettings(lora_rank=RANK, seed=number)).train()
    chance = random.Random(number // 2)
    chosen = chance.sample([turn for turn in turns if turn.split == "train"], len(turns) // 4)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=(1e-3, 3e-4, 1e-3, 2e-3, 5e-4)[number // 2], weight_decay=0.0)
    order = random.Random(number)
    for _ in range((8, 16, 30)[number % 3]):
        batch = tensors(chat, "sft", [demonstration(turn) for turn in order.sample(chosen, 8)], 160, True)
        optimizer.zero_grad()
        policy_loss(model, batch, 0.1, 1.0).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(model).items()}


def demonstration(turn: ServedTurn) -> Demonstration:
    return Demonstration(
        id=turn.turn_id, prompt=turn.prompt, reply=turn.reply, split="train", weight=1.0, tenant="default",
        conversation_id=turn.conversation_id, turn_id=turn.turn_id, locale=turn.locale,
        provenance=Provenance(source="expert", event_ids=(turn.turn_id,), at_us=turn.occurred_at_us),
    )  # fmt: skip


def shaken(state: State, number: int) -> State:
    """The same adapter with each module's strength between a half and one and a half."""
    chance = random.Random(number)
    return scaled(state, lambda name: chance.uniform(0.5, 1.5))


def scaled(state: State, factor: Callable[[str], float]) -> State:
    """B times `factor(name)`: the module's strength."""
    return {name: value * factor(name) if "lora_B" in name else value for name, value in state.items()}


def exchanged(state: State, one: int, other: int) -> State:
    """Two layers in each other's place."""
    places = {one: other, other: one}
    return {
        re.sub(r"(?<=layers\.)\d+", lambda found: str(places.get(int(found[0]), int(found[0]))), name): value
        for name, value in state.items()
    }


def noisy(state: State, share: float, seed: int) -> State:
    """Every weight with noise of this share of its matrix's size."""
    chance = torch.Generator().manual_seed(seed)
    return {n: v + share * v.std() * torch.randn(v.shape, generator=chance) for n, v in state.items()}


def wrong_one(number: int, state: State, trained: Sequence[State]) -> tuple[str, State]:
    """The wrong adapter that stands in for right one `number`: its kind, and its weights."""
    own = number % TRAINED
    layer, kind = number // 10 % 4, KINDS[number % len(KINDS)]
    cases: list[tuple[str, Callable[[], State]]] = [
        ("another candidate's weights", lambda: shaken(trained[(own + 3) % TRAINED], number + 1)),
        ("the same data, another seed", lambda: trained[own ^ 1]),
        ("one layer of four unapplied", lambda: scaled(state, lambda n: 0.0 if f"layers.{layer}." in n else 1.0)),
        ("two layers exchanged", lambda: exchanged(state, layer, (layer + 1) % 4)),
        ("one layer of four unapplied", lambda: scaled(state, lambda n: 0.0 if f"layers.{3 - layer}." in n else 1.0)),
        ("one kind of module unapplied", lambda: scaled(state, lambda n: 0.0 if kind in n else 1.0)),
        ("nothing applied", lambda: scaled(state, lambda n: 0.0)),
        ("alpha doubled", lambda: scaled(state, lambda n: 2.0)),
        ("alpha halved", lambda: scaled(state, lambda n: 0.5)),
        ("alpha 1.2 times", lambda: scaled(state, lambda n: 1.2)),
    ]
    name, make = cases[(number + number // 10) % len(cases)]
    return name, make()


class Torch:
    """The base in this process, in float32 or bfloat16."""

    def __init__(self, base: Base, dtype: torch.dtype) -> None:
        self.model = with_policy_lora(load_causal(base.path), PolicySettings(lora_rank=RANK)).to(dtype).eval()
        self.pad = pad_id(load_chat(base))

    def score(self, state: State | None, record: Record) -> Scores:
        rows = [(probe.prompt, [probe.reply]) for probe in record.probes]
        if state is None:
            with self.model.disable_adapter():
                return score(self.model, rows, self.pad)
        set_peft_model_state_dict(self.model, state)
        return score(self.model, rows, self.pad)


class Vllm:
    """A server that serves this base under the name `base`, asked as the gateway asks."""

    def __init__(self, base: Base, url: str) -> None:
        self.base, self.url, self.count = base, url, 0

    def score(self, state: State | None, record: Record) -> Scores:
        return asyncio.run(self._score(state, record))

    async def _score(self, state: State | None, record: Record) -> Scores:
        async with aiohttp.ClientSession() as session:
            replica = Replica(session, self.url, SystemClock())
            if state is None:
                return await score_on(replica, record, "base")
            self.count += 1
            name = f"bench-{self.count}"
            with tempfile.TemporaryDirectory() as folder:
                save_file({n: v.contiguous() for n, v in state.items()}, Path(folder) / WEIGHTS)
                config = adapter_config(self.base, RANK, 2 * RANK, list(KINDS))
                (Path(folder) / CONFIG).write_bytes(canonical(config))
                await replica.load(name, Path(folder))
                try:
                    return await score_on(replica, record, name)
                finally:
                    await replica.unload(name)


def records(work: Path, base: Base, rights: Sequence[State], turns: Sequence[ServedTurn]) -> list[Record]:
    """The right adapters' records, every second one of fixed probes only; made once."""
    chat = load_chat(base)
    found: list[Record] = []
    for number, state in enumerate(rights):
        path = work / f"record-{number}.json"
        if not path.exists():
            model = with_policy_lora(load_causal(base.path), PolicySettings(lora_rank=RANK))
            set_peft_model_state_dict(model, state)
            probes = choose_probes(turns if number % 2 else [], lambda text: len(chat.content(text)))
            rows = [encode_probe(chat, probe, LENGTH) for probe in probes]
            record = measure(model, "default", f"{number:064x}", base, rows, pad_id(chat))
            write_json(path, msgspec.to_builtins(record))
            said("records")(number + 1, len(rights))
        found.append(msgspec.json.decode(path.read_bytes(), type=Record))
    return found


def changes(number: int, state: State) -> Iterator[tuple[str, State]]:
    """Small changes to a right adapter."""
    for share in NOISES:
        yield f"weights with {share:.0%} noise", noisy(state, share, number)
    for strength in STRENGTHS:
        yield (
            f"one layer at {strength:.2f}",
            scaled(state, lambda n, s=strength: s if f"layers.{number % 4}." in n else 1.0),
        )


def run(
    engine: Torch | Vllm, rights: Sequence[State], trained: Sequence[State], recorded: Sequence[Record], small: int
) -> None:
    """Score everything and print the tables."""
    proven: list[Proven] = []
    refused: list[str] = []
    wrong: dict[str, list[bool]] = defaultdict(list)
    slight: dict[str, list[bool]] = defaultdict(list)
    missed: list[str] = []
    for number, (state, record) in enumerate(zip(rights, recorded, strict=True)):
        base = engine.score(None, record)
        found = prove(record, base, engine.score(state, record))
        if isinstance(found, NotProven):
            refused.append(f"{number}: {found.reason}")
        else:
            proven.append(found)
        name, other = wrong_one(number, state, trained)
        accepted = isinstance(prove(record, base, engine.score(other, record)), Proven)
        wrong[name].append(accepted)
        if accepted:
            missed.append(
                f"{number}: {name}; weakest part {min(powers(record).values()):.1f} standard errors in bfloat16"
            )
        if small and number % max(1, len(rights) // small) == 0:
            for what, changed in changes(number, state):
                slight[what].append(isinstance(prove(record, base, engine.score(changed, record)), Proven))
    print(f"  right: {len(proven)} of {len(rights)} accepted", *refused, sep="\n    ")
    if proven:
        print(
            f"    furthest part {max(p.deviation for p in proven):.2f} standard errors (5 allowed), residual "
            f"{min(p.residual for p in proven):.2f} to {max(p.residual for p in proven):.2f} times the noise, strength "
            f"{min(p.strength for p in proven):.3f} to {max(p.strength for p in proven):.3f}; with a part that can't be "
            f"told apart: {sum(bool(p.blind) for p in proven)}"
        )
        parts = sorted({(round(size, 4), part) for p in proven for part, size in p.blind.items()})
        if parts:
            print(f"    such a part could be told from {parts[0][0]} to {parts[-1][0]} nats a token on (rms)")
    print(f"  wrong: {sum(map(sum, wrong.values()))} of {sum(map(len, wrong.values()))} accepted")
    for name, outcomes in sorted(wrong.items()):
        print(f"    {name:32}{sum(outcomes):4} of {len(outcomes)} accepted")
    for what in missed:
        print(f"    accepted: {what}")
    for what, outcomes in slight.items():
        print(f"  {what:34}{sum(outcomes):4} of {len(outcomes)} accepted")


def weak(base: Base, rights: Sequence[State], count: int) -> None:
    """Adapters of little effect: from which size on a layer that is not applied is noticed, in bfloat16."""
    engine, chat = Torch(base, torch.bfloat16), load_chat(base)
    rows = [encode_probe(chat, probe, LENGTH) for probe in choose_probes([], lambda text: len(chat.content(text)))]
    seen: dict[float, list[tuple[float, bool]]] = defaultdict(list)
    accepted: list[bool] = []
    for number in range(count):
        state = scaled(rights[number], lambda name, s=(0.3, 0.1, 0.05)[number % 3]: s)
        model = with_policy_lora(load_causal(base.path), PolicySettings(lora_rank=RANK))
        set_peft_model_state_dict(model, state)
        record = measure(model, "default", "0" * 64, base, rows, pad_id(chat))
        bare = engine.score(None, record)
        accepted.append(isinstance(prove(record, bare, engine.score(state, record)), Proven))
        told = powers(record)
        for layer in range(4):
            part = scaled(state, lambda name, at=f"layers.{layer}.": 0.0 if at in name else 1.0)
            refused = isinstance(prove(record, bare, engine.score(part, record)), NotProven)
            power, effect = told[f"layer {layer}"], rms(record.effects[f"layer {layer}"]) * UNIT
            seen[next(edge for edge in EDGES if power < edge)].append((effect, refused))
    print(f"  weak adapters, right: {sum(accepted)} of {count} accepted (else they change too little)")
    for edge, found in sorted(seen.items()):
        sizes = sorted(effect for effect, _ in found)
        print(
            f"  a layer unapplied whose effect is below {edge:g} standard errors ({sizes[0]:.4f} to {sizes[-1]:.4f} nats a "
            f"token): {sum(refused for _, refused in found)} of {len(found)} refused"
        )


def describe_records(recorded: Sequence[Record]) -> None:
    """What the records are like."""
    sizes = [len(msgspec.json.encode(record)) for record in recorded]
    effects = sorted(
        rms([c - b for p in record.probes for b, c in zip(p.base, p.candidate, strict=True)]) for record in recorded
    )
    layers = sorted(powers(record)[f"layer {n}"] for record in recorded for n in range(4))
    tokens = [sum(len(probe.reply) for probe in record.probes) for record in recorded]
    print(
        f"{len(recorded)} records: {min(tokens)} to {max(tokens)} tokens, {max(sizes) // 1000} kB at most; whole effect "
        f"{effects[0]:.3f} to {effects[-1]:.3f} nats a token (median {effects[len(effects) // 2]:.3f}); a layer's effect in "
        f"bfloat16 {layers[0]:.1f} to {layers[-1]:.0f} standard errors, {sum(x < 10 for x in layers)} of {len(layers)} under 10"
    )


def rms(values: Sequence[float]) -> float:
    return float((sum(value * value for value in values) / len(values)) ** 0.5)


def said(what: str) -> Callable[[int, int], None]:
    return lambda step, of: print(f"  {what}: {step} of {of}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=100, help="right ones, and as many wrong ones")
    parser.add_argument("--small", type=int, default=20, help="of how many right ones small changes are tried")
    parser.add_argument("--weak", type=int, default=18, help="so many adapters of little effect")
    parser.add_argument("--work", type=Path, help="keep what is prepared here [default: a temporary directory]")
    parser.add_argument("--vllm", help="address of a vLLM that serves WORK/base under the name `base`")
    parser.add_argument("--name", default="", help="what to call it")
    parser.add_argument("--prepare", action="store_true", help="only prepare the work directory")
    parser.add_argument("--only-weak", action="store_true", help="only the adapters of little effect")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work: Path = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        turns = read_turns()
        base, trained = prepare(work, turns)
        rights = [shaken(trained[number % TRAINED], number) for number in range(asked.adapters)]
        recorded = records(work, base, rights, turns)
        describe_records(recorded)
        if asked.prepare:
            return
        engines: dict[str, Callable[[], Torch | Vllm]] = {
            "torch, float32": lambda: Torch(base, torch.float32),
            "torch, bfloat16": lambda: Torch(base, torch.bfloat16),
        }
        if asked.only_weak:
            engines = {}
        elif asked.vllm:
            engines = {f"vLLM {asked.name}": lambda: Vllm(base, asked.vllm)}
        for name, engine in engines.items():
            print(name, flush=True)
            run(engine(), rights, trained, recorded, asked.small)
        if not asked.vllm and asked.weak:
            weak(base, rights, asked.weak)


if __name__ == "__main__":
    main()
