"""A real HTTP server on loopback that answers as a vLLM does, for what that one answers on real adapters."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

BASE = "base"


class FakeVllm:
    """Sees the paths in `visible`; `refused` says why it will not serve what lies in a path; `nan` names poisonous models."""

    def __init__(self) -> None:
        self.url = ""
        self.roots = {BASE: "/models/base"}
        self.visible: set[str] = set()
        self.refused: dict[str, str] = {}
        self.nan: set[str] = set()
        self.broken = False
        self.breaks_on_load = False
        self.instead: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        """Answers everything, where it is set."""
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def restart(self) -> None:
        """What was loaded is forgotten."""
        self.roots = {BASE: self.roots[BASE]}
        self.broken = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        fields = await request.json() if request.can_read_body else {}
        self.asked.append((request.path, fields))
        if self.instead is not None:
            return await self.instead(request)
        answers: dict[str, Callable[[dict[str, Any]], web.Response]] = {
            "/health": lambda _: web.Response(status=503 if self.broken else 200),
            "/v1/models": lambda _: self._models(),
            "/v1/load_lora_adapter": self._load,
            "/v1/unload_lora_adapter": self._unload,
            "/v1/completions": self._complete,
        }
        if request.path not in answers:
            return web.json_response({"detail": "Not Found"}, status=404)
        return answers[request.path](fields)

    def _models(self) -> web.Response:
        cards = [{"id": name, "object": "model", "root": root} for name, root in self.roots.items()]
        return web.json_response({"object": "list", "data": cards})

    def _load(self, fields: dict[str, Any]) -> web.Response:
        name, path = fields["lora_name"], fields["lora_path"]
        if self.breaks_on_load:
            self.broken = True
            return error(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")
        if name in self.roots:
            return error(
                400, f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in pl…"
            )
        if path not in self.visible:
            return error(404, f"Loading lora {name} failed: No adapter found for {path}")
        if path in self.refused:
            return error(
                500, f"Call to add_lora method failed: Worker failed with error '{self.refused[path]}', please…"
            )
        self.roots[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    def _unload(self, fields: dict[str, Any]) -> web.Response:
        name = fields["lora_name"]
        if name == BASE or self.roots.pop(name, None) is None:
            return error(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    def _complete(self, fields: dict[str, Any]) -> web.Response:
        if (model := fields["model"]) not in self.roots:
            return error(404, f"The model `{model}` does not exist. Valid aliases: {', '.join(self.roots)}.")
        if model in self.nan:
            return error(400, "Out of range float values are not JSON compliant")
        (token,) = fields["allowed_token_ids"]
        return scored(token, [likelihood(before, token) for before in fields["prompt"]])


def likelihood(before: list[int], token: int) -> float:
    """What this server's models say, whichever is asked."""
    return -math.log(1 + token + len(before))


def scored(token: int, logprobs: list[float]) -> web.Response:
    """How likely this one token was after each prompt."""
    found = [{"tokens": [f"token_id:{token}"], "token_logprobs": [logprob]} for logprob in logprobs]
    choices = [{"index": index, "text": "", "logprobs": each} for index, each in enumerate(found)]
    return web.json_response({"choices": choices})


def error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "…", "param": None, "code": status}}, status=status)


@asynccontextmanager
async def running(fake: FakeVllm) -> AsyncIterator[FakeVllm]:
    """Serves it on a port of its own."""
    runner = web.AppRunner(_app(fake), handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def _app(fake: FakeVllm) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    return app


async def never(_: web.Request) -> web.StreamResponse:
    """Answers nothing, for as long as somebody waits."""
    await asyncio.Event().wait()
    return web.Response()
