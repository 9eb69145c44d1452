"""A local engine: one base model in this process, many adapters on it, replies as streams of text.

For small models and one machine. Requests of several adapters interleave token by token: each step takes the lock,
switches to its adapter, and runs on a cache of its own. Everything here may be called from any thread.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from feedback.records import Message
from models.adapters import Adapter, AdapterInvalid, engine_name, read_adapter
from models.bases import Base
from models.loading import device, load_causal, load_chat, pad_id
from models.probes import remake, score
from models.proof import NotProven, Record, prove
from models.records import find_record
from models.text_stream import TextStream

_RESERVED = 4  # a quarter of the context is kept for the reply


class UnknownAdapter(LookupError):
    """No adapter of this digest is loaded."""


class LocalEngine:
    """Serves `base`, bare or with loaded adapters."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._chat = load_chat(base)
        self._model: Any = load_causal(base.path)
        self._context = int(self._model.config.max_position_embeddings)
        self._lock = threading.RLock()
        self._loaded: set[str] = set()
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

    def unload_adapter(self, digest: str) -> None:
        """Accept no further requests for `digest`; it is freed once those under way are through."""
        with self._lock:
            if digest in self._loaded:
                self._loaded.remove(digest)
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

        Iterate over the result for pieces of text; afterwards it knows `finish_reason` and its tokens. A context that
        is too long loses its oldest messages. Raises UnknownAdapter, JobFailed.
        """
        prompt = self._prompt(messages, max_tokens)
        with self._lock:
            if adapter is not None and adapter not in self._loaded:
                raise UnknownAdapter(f"adapter {adapter[:16]} is not loaded")
            if adapter is not None:
                self._in_use[adapter] += 1
        limit = min(max_tokens, self._context - len(prompt))
        return Generation(
            self, prompt, adapter, limit, _Sampler(temperature, top_p, seed), TextStream(self._chat, stop)
        )

    def _prompt(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        return self._chat.prompt(messages, self._context - min(max_tokens, self._context // _RESERVED))

    def _step(self, ids: Sequence[int], cache: DynamicCache, adapter: str | None) -> Tensor:
        """Logits of the next token, [vocabulary], on the CPU."""
        with self._lock, torch.inference_mode():
            self._switch(engine_name(adapter) if adapter else None)
            tokens = torch.tensor([list(ids)], device=device())
            output = self._model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits: Tensor = output.logits[0, -1].float().cpu()
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


class Generation:
    """One reply under way: an iterator over pieces of its text. Close it when it is abandoned."""

    def __init__(
        self,
        engine: LocalEngine,
        prompt: list[int],
        adapter: str | None,
        limit: int,
        sampler: _Sampler,
        text: TextStream,
    ) -> None:
        self.prompt_tokens = len(prompt)
        self.completion_tokens = 0
        self.finish_reason: Literal["stop", "length"] | None = None
        self._engine, self._adapter = engine, adapter
        self._pieces = self._run(prompt, limit, sampler, text)
        self._open = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the adapter back; called at the end, and by whoever stops early."""
        self._pieces.close()  # type: ignore[attr-defined]
        if self._open:
            self._open = False
            self._engine._release(self._adapter)

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.close()

    def _run(self, prompt: list[int], limit: int, sampler: _Sampler, text: TextStream) -> Iterator[str]:
        cache, ids = DynamicCache(), prompt
        while self.completion_tokens < limit and self.finish_reason is None:
            token = sampler.choose(self._engine._step(ids, cache, self._adapter))
            self.completion_tokens += 1
            if token in text.end_ids:
                self.finish_reason = "stop"
                break
            if piece := text.push(token):
                yield piece
            if text.stopped:
                self.finish_reason = "stop"
            ids = [token]
        self.finish_reason = self.finish_reason or "length"
        if piece := text.flush():
            yield piece


class _Sampler:
    """Chooses tokens at a temperature (0: the likeliest) from the smallest set that holds `top_p` of probability."""

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.random = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed & (2**63 - 1))

    def choose(self, logits: Tensor) -> int:
        if self.temperature <= 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, index = probabilities.sort(descending=True)
            beyond = ordered.cumsum(0) - ordered >= self.top_p  # the first token always stays
            probabilities = torch.zeros_like(probabilities).scatter(0, index, ordered.masked_fill(beyond, 0.0))
        return int(torch.multinomial(probabilities, 1, generator=self.random))
