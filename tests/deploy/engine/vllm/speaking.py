"""Servers that chat and score as vLLM does, by a record: what they have loaded rightly scores as it was recorded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from models.adapters import engine_name
from models.proof import Record
from tests.deploy.candidates import make_candidate
from tests.deploy.engine.vllm.fake_server import FakeVllm, error
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


class Speaking(FakeVllm):
    """Sees everything; says as a chat which model it was asked for. What is in `wrong` it loads and does not apply."""

    def __init__(self, *records: Record) -> None:
        super().__init__()
        self.records = {engine_name(record.digest): record for record in records}
        self.wrong: set[str] = set()
        self.lost: set[str] = set()
        """Models that chats don't find, though they are listed."""
        self.forgets_at = 0
        """At so many scores from now on it forgets all (0: at none)."""
        self.slow: dict[str, asyncio.Event] = {}
        """Models whose chats are answered once this is set."""
        self.chats: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/chat/completions":
            return await super().answer(request)
        model = (await request.json())["model"]
        self.chats.append(model)
        if model not in self.roots or model in self.lost:
            return error(404, f"The model `{model}` does not exist.")
        if model in self.slow:
            await self.slow[model].wait()
        message = {"role": "assistant", "content": model}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"object": "chat.completion", "model": model, "choices": [choice]})

    def _load(self, fields: dict[str, Any]) -> web.Response:
        self.visible.add(fields["lora_path"])
        return super()._load(fields)

    def _complete(self, fields: dict[str, Any]) -> web.Response:
        model, (at, _, *before), (token,) = fields["model"], fields["prompt"], fields["allowed_token_ids"]
        self.forgets_at -= 1
        if self.forgets_at == 0:
            self.restart()
        if model not in self.roots:
            return error(404, f"The model `{model}` does not exist.")
        record = self.records.get(model) or next(iter(self.records.values()))
        probe = record.probes[at]
        applied = model in self.records and model not in self.wrong
        logprob = (probe.candidate if applied else probe.base)[len(before)]
        found = {"tokens": [f"token_id:{token}"], "token_logprobs": [logprob]}
        return web.json_response({"choices": [{"index": 0, "text": "", "logprobs": found}]})
