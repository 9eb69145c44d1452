"""Servers that chat and score as vLLM does, by a record: what they have loaded rightly scores as it was recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from models.adapters import engine_name
from models.bases import Base
from models.chat import TINY_MARKERS, TINY_TEMPLATE
from models.proof import Record
from tests.deploy.candidates import make_candidate
from tests.deploy.engine.vllm.fake_server import FakeVllm, error, scored
from tests.models.test_proof import World


def record_for(digest: str, seed: int = 0) -> Record:
    """A record of this candidate on the base `tiny`, each probe with a prompt of its own."""
    record = World(seed=seed).record
    probes = [msgspec.structs.replace(probe, prompt=[at, 7]) for at, probe in enumerate(record.probes)]
    return msgspec.structs.replace(record, digest=digest, base_name="tiny", base_revision="1", probes=probes)


def recorded_candidate(folder: Path, seed: int = 0) -> tuple[str, Record]:
    """A candidate whose report has a record."""
    digest = make_candidate(folder, seed)
    record = record_for(digest)
    report = json.loads((folder / digest / "report.json").read_bytes())
    report["probes"]["record"] = msgspec.to_builtins(record)
    (folder / digest / "report.json").write_text(json.dumps(report))
    return digest, record


def with_tokenizer(base: Base) -> Base:
    """The same base, with a tokenizer in its directory: each byte a token, and the markers of `tiny`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate([*TINY_MARKERS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(TINY_MARKERS))
    tokenizer.save(str(Path(base.path) / "tokenizer.json"))
    config = {"eos_token": TINY_MARKERS[0], "chat_template": TINY_TEMPLATE}
    (Path(base.path) / "tokenizer_config.json").write_text(json.dumps(config))
    return base


class Speaking(FakeVllm):
    """Sees everything; says which model it was asked for. What is in `wrong` it loads and does not apply.

    Chats and completions of token ids it answers alike, whole or streamed, `n` times.
    """

    def __init__(self, *records: Record) -> None:
        super().__init__()
        self.records = {engine_name(record.digest): record for record in records}
        self.wrong: set[str] = set()
        self.lost: set[str] = set()
        """Models that chats don't find, though they are listed."""
        self.forgets_at = 0
        """At so many requests for scores from now on it forgets all (0: at none)."""
        self.slow: dict[str, asyncio.Event] = {}
        """Models whose chats are answered once this is set."""
        self.chats: list[str] = []
        self.loading: dict[str, asyncio.Event] = {}
        """Adapters that are loaded once this is set."""
        self.context: int | None = 400

    async def answer(self, request: web.Request) -> web.StreamResponse:
        chat = request.path == "/v1/chat/completions"
        if request.path == "/v1/load_lora_adapter" and self.loading:
            fields = await request.json()
            if (held := self.loading.pop(fields["lora_name"], None)) is not None:
                await held.wait()
            self.asked.append((request.path, fields))
            return self._load(fields)
        if not chat and request.path != "/v1/completions":
            return await super().answer(request)
        fields = await request.json()
        if "allowed_token_ids" in fields:  # a score, not a reply
            self.asked.append((request.path, fields))
            return self._complete(fields)
        self.asked.append((request.path, fields))
        model = fields["model"]
        self.chats.append(model)
        if model not in self.roots or model in self.lost:
            return error(404, f"The model `{model}` does not exist.")
        if model in self.slow:
            await self.slow[model].wait()
        if self.context is not None and len(fields.get("prompt", ())) > self.context:
            return error(400, f"This model's maximum context length is {self.context} tokens.")
        documents = list(_documents(fields, chat))
        if not fields.get("stream"):
            return web.json_response(documents[0])
        lines = "".join(f"data: {json.dumps(document)}\n\n" for document in documents)
        return web.Response(text=f"{lines}data: [DONE]\n\n", content_type="text/event-stream")

    def _models(self) -> web.Response:
        cards = [{"id": name, "root": root, "max_model_len": self.context} for name, root in self.roots.items()]
        return web.json_response({"object": "list", "data": cards})

    def _load(self, fields: dict[str, Any]) -> web.Response:
        self.visible.add(fields["lora_path"])
        return super()._load(fields)

    def _complete(self, fields: dict[str, Any]) -> web.Response:
        model, (token,) = fields["model"], fields["allowed_token_ids"]
        self.forgets_at -= 1
        if self.forgets_at == 0:
            self.restart()
        if model not in self.roots:
            return error(404, f"The model `{model}` does not exist.")
        record = self.records.get(model) or next(iter(self.records.values()))
        applied = model in self.records and model not in self.wrong
        probes = [(record.probes[at], len(before)) for at, _, *before in fields["prompt"]]
        return scored(token, [(probe.candidate if applied else probe.base)[at] for probe, at in probes])


def _documents(fields: dict[str, Any], chat: bool) -> Iterator[dict[str, Any]]:
    """As vLLM has them: one, or the chunks of a stream with their usage at the end."""
    stream, said, model = bool(fields.get("stream")), fields["model"], fields["model"]
    name = "chat.completion" if chat else "text_completion"
    known = {"id": "chatcmpl-1" if chat else "cmpl-1", "created": 1, "model": model}
    known["object"] = f"{name}.chunk" if chat and stream else name
    usage = {"prompt_tokens": len(fields.get("prompt", "12345")), "completion_tokens": 2, "total_tokens": 7}
    places = range(fields.get("n") or 1)
    if not stream:
        choices = [_choice(place, said, "stop", chat, "message") for place in places]
        yield known | {"choices": choices, "usage": usage}
        return
    for piece, end in [(said[:2], None), (said[2:], None), ("", "stop")]:
        for place in places:
            yield known | {"choices": [_choice(place, piece, end, chat, "delta")]}
    yield known | {"choices": [], "usage": usage}


def _choice(index: int, text: str, end: str | None, chat: bool, kind: str) -> dict[str, Any]:
    said = {kind: {"role": "assistant", "content": text}} if chat else {"text": text}
    return {"index": index, **said, "logprobs": None, "finish_reason": end, "stop_reason": None}
