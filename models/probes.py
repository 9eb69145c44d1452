"""Probes: fixed exchanges that are scored at training, token by token, and again after every load (see models/proof.py).

An engine can take an adapter and silently not apply it, or a part of it; that shows here, and nowhere else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from feedback.dataset.tables import ServedTurn
from feedback.records import Message
from feedback.texts import is_blank
from models.adapters import Adapter, AdapterInvalid
from models.bases import Base
from models.batches import Row, lay_out, token_logps
from models.chat import Chat
from models.fixed_probes import EXCHANGES
from models.lengths import encode
from models.loading import load_causal, load_chat, pad_id
from models.prefix import beside_base, prefix_of
from models.proof import UNIT, Record, ScoredProbe, limits_of
from models.records import store_record
from models.sampling import choose_prompts
from models.weights import layer_of

TOKENS = 480  # a layer with half the noise's size as its effect is then 10 standard errors
_OWN_TOKENS = TOKENS // 2  # what a base has not learned by heart moves more and is rounded less: fixed ones tell most
_OWN = 24
_REPLY_TOKENS = 48
_LONGEST = 256  # tokens of prompt and reply: it bounds the record, and what a load costs
_AT_ONCE = 8
_MOST_LAYERS = 48  # of an adapter with more, neighbours share a part
_DIGITS = 6

Scores = list[list[float]]


class Probe(Struct, frozen=True):
    """A context and a reply to it."""

    messages: list[Message]
    reply: str


def choose_probes(turns: Sequence[ServedTurn], tokens: Callable[[str], int]) -> list[Probe]:
    """Exchanges of the gate split with 240 of their replies' `tokens`, and fixed ones, together 480; of a reply 48 count."""
    own = [Probe(turn.prompt, turn.reply) for turn in choose_prompts(turns, "gate", _OWN) if not is_blank(turn.reply)]
    fixed = [Probe([{"role": "user", "content": prompt}], reply) for prompt, reply in EXCHANGES]
    chosen = _until(own, _OWN_TOKENS, tokens)
    have = sum(min(tokens(probe.reply), _REPLY_TOKENS) for probe in chosen)
    return chosen + _until(fixed, TOKENS - have, tokens)


def _until(probes: Sequence[Probe], enough: int, tokens: Callable[[str], int]) -> list[Probe]:
    """The first of them that have `enough` tokens together; all, where they have fewer."""
    chosen: list[Probe] = []
    for probe in probes:
        if enough <= 0:
            break
        chosen.append(probe)
        enough -= min(tokens(probe.reply), _REPLY_TOKENS)
    return chosen


def encode_probe(chat: Chat, probe: Probe, max_length: int) -> Row:
    """Ids of the prompt's end and of the reply's beginning."""
    prompt, (reply,) = encode(chat, probe.messages, [probe.reply], min(max_length, _LONGEST))
    return prompt, [reply[:_REPLY_TOKENS]]


@torch.no_grad()
def score(model: Any, rows: Sequence[Row], pad: int) -> Scores:
    """Log-probability of each token of each row's one reply, nats."""
    model.eval()
    found: Scores = []
    for first in range(0, len(rows), _AT_ONCE):
        batch = {name: x.to(model.device) for name, x in lay_out(rows[first : first + _AT_ONCE], pad).items()}
        parts = token_logps(model, batch).cpu().split(batch["lengths"].tolist())
        found += [[round(value, _DIGITS) for value in part.tolist()] for part in parts]
    return found


def report_probes(
    model: Any, adapter: str, digest: str, base: Base, chat: Chat, probes: Sequence[Probe], max_length: int
) -> dict[str, Any]:
    """The report's part on probes: means for people and the gate, and the record for engines.

    `model` (of peft, `adapter` is its name there) is in bfloat16 afterwards.
    """
    rows = [encode_probe(chat, probe, max_length) for probe in probes]
    record = measure(model, adapter, digest, base, rows, pad_id(chat))
    means = [(_mean(scored.base), _mean(scored.candidate)) for scored in record.probes]
    items = [
        {"messages": probe.messages, "reply": probe.reply, "base_logprob": before, "candidate_logprob": after}
        for probe, (before, after) in zip(probes, means, strict=True)
    ]
    return {
        "max_length": max_length,
        "largest_difference": max(abs(before - after) for before, after in means),
        "items": items,
        "record": msgspec.to_builtins(record),
    }


def measure(model: Any, adapter: str, digest: str, base: Base, rows: Sequence[Row], pad: int) -> Record:
    """Score `rows` with and without the adapter and each of its parts in float32, then both in bfloat16, as it stays."""
    _to_float32(model)
    model.set_adapter(adapter)
    adapted = _adapted(model, adapter)
    prefix, effects = prefix_of(model, list(adapted)), {}
    with prefix.kept(every=True):
        whole = score(model, rows, pad)
    with model.disable_adapter(), prefix.begun_at(prefix.first):
        bare = score(model, rows, pad)
    for name, part in _parts(adapted).items():
        with _without(part.modules, adapter), prefix.begun_at(part.first):
            rest = score(model, rows, pad)
        pairs = zip(_flat(whole), _flat(rest), strict=True)
        effects[name] = [round((with_it - without) / UNIT) for with_it, without in pairs]
    model.to(torch.bfloat16)
    low, low_base = beside_base(model, lambda: score(model, rows, pad))
    probes = [ScoredProbe(list(p), list(r), b, c) for (p, (r,)), b, c in zip(rows, bare, whole, strict=True)]
    noise, limits = limits_of(probes, low_base, low)
    return Record(digest, base.name, base.revision, probes, effects, noise, limits)


def remake(candidate: Path, adapter: Adapter, base: Base) -> Record:
    """Make and keep the record of a candidate from before there were any, on fixed probes, from the bytes that were checked.

    Loads a base of its own, so that no engine is measured against itself. Raises AdapterInvalid where it is of another base,
    or the base is not here.
    """
    if not Path(base.path).is_dir():
        raise AdapterInvalid(
            f"adapter {adapter.manifest.digest[:16]} is from before adapters were proven, and its base {base.name} is not "
            f"here to make its record with: train a new candidate, or bring the base back to {base.path}"
        )
    adapter.check_fits(base)
    chat, model = load_chat(base), load_causal(base.path)
    max_length = int(model.config.max_position_embeddings)
    rows = [encode_probe(chat, probe, max_length) for probe in choose_probes([], lambda text: len(chat.content(text)))]
    with tempfile.TemporaryDirectory() as folder:
        adapter.write(Path(folder))
        adapted = PeftModel.from_pretrained(model, folder, adapter_name="candidate")
    record = measure(adapted, "candidate", adapter.manifest.digest, base, rows, pad_id(chat))
    store_record(candidate, record)
    return record


class _Part(Struct):
    """Some of an adapter's modules, and the first layer that one of them is in (0 too where one is in none)."""

    first: int
    modules: list[Any] = msgspec.field(default_factory=list)


def _adapted(model: Any, adapter: str) -> dict[str, Any]:
    """The modules that this adapter changes, by name."""
    layered = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    return {name: module for name, module in layered if adapter in module.scaling}


def _parts(adapted: Mapping[str, Any]) -> dict[str, _Part]:
    """The adapted modules by layer and by kind; a part that is the whole adapter is none."""
    layers = sorted({layer for name in adapted if (layer := layer_of(name)) is not None})
    step = -(-len(layers) // _MOST_LAYERS) or 1
    groups = [layers[first : first + step] for first in range(0, len(layers), step)]
    names = {
        layer: f"layer {group[0]}" if len(group) == 1 else f"layers {group[0]} to {group[-1]}"
        for group in groups
        for layer in group
    }
    parts: dict[str, _Part] = {}
    for name, module in adapted.items():
        layer = layer_of(name)
        for kind in ([] if layer is None else [names[layer]]) + [name.rsplit(".", 1)[-1]]:
            part = parts.setdefault(kind, _Part(layer or 0))
            part.modules.append(module)
            part.first = min(part.first, layer or 0)
    return {name: part for name, part in parts.items() if len(part.modules) < len(adapted)}


@contextmanager
def _without(modules: Sequence[Any], adapter: str) -> Iterator[None]:
    """The adapter without what it does in these modules."""
    kept = [module.scaling[adapter] for module in modules]
    try:
        for module in modules:
            module.scaling[adapter] = 0.0
        yield
    finally:
        for module, scale in zip(modules, kept, strict=True):
            module.scaling[adapter] = scale


def _to_float32(model: Any) -> None:
    try:
        model.to(torch.float32)
    except torch.OutOfMemoryError:  # twice bfloat16's size: slowly, then
        model.to("cpu").to(torch.float32)


def _flat(scores: Scores) -> list[float]:
    return [value for part in scores for value in part]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
