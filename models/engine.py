"""A local engine: one base model in this process, many adapters on it, replies as streams of text.

For small models and one machine. Several replies go forward together: a step is one pass of the model for all of them,
each by its adapter and on keys and values of its own (models/ragged.py); they join and leave between steps. A prompt
is read in portions, so that a long one does not keep the others waiting. Everything here may be called from any thread.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from feedback.records import Message
from models.adapters import Adapter, AdapterInvalid, engine_name, read_adapter
from models.bases import Base
from models.chat import Chat
from models.context import context_of
from models.cutting import prompt_room
from models.generation import Generation, Sampler
from models.loading import device, load_causal, load_chat, pad_id
from models.probes import remake, score
from models.proof import NotProven, Record, prove
from models.ragged import BARE, KeyValues, bytes_per_token, can_batch, forward
from models.records import find_record
from models.text_stream import TextStream

_MOST_BYTES = 1 << 29  # keys and values of one reply: a base with a longer context is served with a shorter one
_PORTION = {"cpu": 8, "cuda": 256}
"""Ids of prompts in a step beside replies that are being written, and one more for each of these: on a CPU a step then
takes 1.2 times as long for short prompts and many replies, and twice as long for one reply beside a prompt of 1,500."""
_PORTION_ALONE = 256


class UnknownAdapter(LookupError):
    """No adapter of this digest is loaded."""


class LocalEngine:
    """Serves `base`, bare or with loaded adapters."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._chat = load_chat(base)
        self._model: Any = load_causal(base.path)
        self._together = can_batch(self._model)
        self._context = context_of(base) or int(self._model.config.max_position_embeddings)
        if self._together:
            self._context = min(self._context, max(1, _MOST_BYTES // bytes_per_token(self._model)))
        self._lock = threading.RLock()
        self._loaded: set[str] = set()
        self._chats: dict[str | None, Chat] = {None: self._chat}
        """By adapter, on the day that it was trained; the bare base's is on that of the adapter that was loaded last."""
        self._in_use: Counter[str] = Counter()
        self._active: str | None = None

    @property
    def adapters(self) -> frozenset[str]:
        """Digests of the loaded adapters."""
        with self._lock:
            return frozenset(self._loaded)

    def load_adapter(self, digest: str, path: Path) -> None:
        """Load the candidate directory `path` as `digest`; AdapterInvalid when anything about it is not as it should be.

        After loading it must prove to be what was trained (models.proof). A candidate without a record of its probes has
        one made first, which takes a second base in memory.
        """
        adapter = read_adapter(path, digest)
        adapter.check_fits(self.base)
        record = find_record(path, adapter.manifest) or remake(path, adapter, self.base)
        with self._lock:
            if digest in self._loaded:
                return
            name = engine_name(digest)
            if name not in self._names():  # else it is being unloaded, and is taken back
                self._add(name, adapter)
            try:
                self._prove(name, record)
            except AdapterInvalid:
                self._remove(name)
                raise
            self._loaded.add(digest)
            self._chats[digest] = self._chats[None] = self._chats[None].dated(adapter.manifest.template_date)

    def unload_adapter(self, digest: str) -> None:
        """Accept no further requests for `digest`; it is freed once those under way are through."""
        with self._lock:
            if digest in self._loaded:
                self._loaded.remove(digest)
                del self._chats[digest]
                self._free_if_idle(digest)

    def check(self, messages: Sequence[Message], *, max_tokens: int = 256) -> None:
        """Raises JobFailed where `generate` would: the base's chat template does not take this sequence of roles."""
        self._prompt(messages, max_tokens)

    def generate(
        self,
        messages: Sequence[Message],
        adapter: str | None = None,
        *,
        max_tokens: int = 256,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generation:
        """A reply to `messages` by the adapter with this digest, or by the bare base.

        Iterate over the result for pieces of text, or pass it to `step` with others; it knows `finish_reason` and its
        tokens. A context that is too long loses its oldest messages. Raises UnknownAdapter, JobFailed.
        """
        prompt = self._prompt(messages, max_tokens, adapter)
        with self._lock:
            if adapter is not None and adapter not in self._loaded:
                raise UnknownAdapter(f"adapter {adapter[:16]} is not loaded")
            if adapter is not None:
                self._in_use[adapter] += 1
        limit = min(max_tokens, self._context - len(prompt))
        return Generation(
            self.step,
            partial(self._release, adapter),
            prompt,
            adapter,
            limit,
            Sampler(temperature, top_p, seed),
            TextStream(self._chat, stop),
            KeyValues(len(prompt) + limit) if self._together else DynamicCache(config=self._model.config),
        )

    def step(self, generations: Sequence[Generation]) -> list[str | Exception]:
        """One step of each: the text that became certain, often none, or what went wrong with this reply.

        A reply has ended when it has a `finish_reason`. None of them may be in another step, or closed meanwhile.
        """
        found: dict[Generation, str | Exception] = {}
        going = [generation for generation in generations if generation.finish_reason is None]
        counts = portions([len(g.unread) for g in going], _PORTION[device().type], _PORTION_ALONE)
        for generation, count, logits in self._pass([one for one in zip(going, counts, strict=True) if one[1]]):
            try:
                found[generation] = logits if isinstance(logits, Exception) else generation.read(count, logits)
            except Exception as error:  # numbers that are none, say: the others go on
                found[generation] = error
        return [found.get(generation, "") for generation in generations]

    def _prompt(self, messages: Sequence[Message], max_tokens: int, adapter: str | None = None) -> list[int]:
        return self._chats.get(adapter, self._chat).prompt(messages, prompt_room(self._context, max_tokens))

    def _pass(self, reading: Sequence[tuple[Generation, int]]) -> list[tuple[Generation, int, Tensor | Exception]]:
        """One pass of the model in which each reads so many ids, and the logits that follow.

        Where it fails each is tried alone, so that only those fail that can't go on.
        """
        if reading and (self._together or len(reading) == 1):
            try:
                with self._lock:
                    logits = self._forward(
                        [(g.memory, g.unread[:n]) for g, n in reading], [g.adapter for g, _ in reading]
                    )
                return [(g, count, row) for (g, count), row in zip(reading, logits, strict=True)]
            except Exception as error:
                if len(reading) == 1:
                    return [(*reading[0], error)]
        return [result for one in reading for result in self._pass([one])]

    def _forward(self, reads: Sequence[tuple[Any, Sequence[int]]], adapters: Sequence[str | None]) -> Tensor:
        """Logits after each one's last id, [replies, vocabulary], on the CPU."""
        names = [engine_name(adapter) if adapter else None for adapter in adapters]
        self._switch(next(filter(None, names), None))
        if self._together:
            mixed = [name or BARE for name in names] if len(set(names)) > 1 else None
            return forward(self._model, reads, mixed)
        [(cache, ids)] = reads
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=device())
            output = self._model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits: Tensor = output.logits[0, -1:].float().cpu()
        return logits

    def _release(self, adapter: str | None) -> None:
        if adapter is not None:
            with self._lock:
                self._in_use[adapter] -= 1
                self._free_if_idle(adapter)

    def _free_if_idle(self, digest: str) -> None:
        if digest not in self._loaded and self._in_use[digest] <= 0:
            del self._in_use[digest]
            if engine_name(digest) in self._names():
                self._remove(engine_name(digest))

    def _names(self) -> set[str]:
        return set(self._model.peft_config) if isinstance(self._model, PeftModel) else set()

    def _add(self, name: str, adapter: Adapter) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                adapter.write(Path(folder))
                if isinstance(self._model, PeftModel):
                    self._model.load_adapter(folder, adapter_name=name)
                else:
                    self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        except (RuntimeError, ValueError, KeyError) as error:  # shapes that do not fit, modules that are not there
            if name in self._names():
                self._remove(name)
            raise AdapterInvalid(f"adapter {name} does not fit the base: {str(error).splitlines()[0][:300]}") from None
        self._model.eval()
        self._active = name
        self._switch(None)

    def _remove(self, name: str) -> None:
        self._switch(None)
        if self._names() == {name}:
            self._model = self._model.unload().eval()  # peft can't run without any adapter
        else:
            self._model.delete_adapter(name)
            self._model.base_model.disable_adapter_layers()

    def _switch(self, name: str | None) -> None:
        model: Any = self._model
        if name == self._active or not isinstance(model, PeftModel):
            return
        lora: Any = model.base_model
        if name is None:
            lora.disable_adapter_layers()
        else:
            lora.enable_adapter_layers()
            model.set_adapter(name, inference_mode=True)
        self._active = name

    def _prove(self, name: str, record: Record) -> None:
        rows, pad = [(probe.prompt, [probe.reply]) for probe in record.probes], pad_id(self._chat)
        self._switch(None)
        base = score(self._model, rows, pad)
        self._switch(name)
        candidate = score(self._model, rows, pad)
        self._switch(None)
        proof = prove(record, base, candidate)
        if isinstance(proof, NotProven):
            raise AdapterInvalid(f"adapter {name} is not proven: {proof.reason}")


def portions(unread: Sequence[int], beside: int, alone: int) -> list[int]:
    """How many ids each reply reads in this step, given how many it has not read.

    One that has one left reads it. The others share `beside` ids in equal parts, and one more for each that has one
    left, or `alone` ids where nobody has; what one does not need of its part goes to the rest. At least one reads.
    """
    counts = [min(1, n) for n in unread]
    waiting = sorted((n, at) for at, n in enumerate(unread) if n > 1)
    writing = len(unread) - len(waiting)
    left = beside + writing if writing else alone
    for place, (n, at) in enumerate(waiting):
        counts[at] = min(n, left // (len(waiting) - place))
        left -= counts[at]
    return counts
