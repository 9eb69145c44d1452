"""A small real OpenAI-compatible server for tests: answers over HTTP as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = dict[str, Any] | str | int
"""A JSON object or text that the judge says, or an HTTP status to fail with."""

Brain = Callable[[dict[str, Any]], Answer]
"""From the request's body to the answer."""


def scores(value: int = 4, confidence: float = 0.9) -> Brain:
    """Give every item of the rubric the same score."""

    def think(body: dict[str, Any]) -> Answer:
        items = body["response_format"]["json_schema"]["schema"]["properties"]["scores"]["properties"]
        return {"scores": dict.fromkeys(items, value), "confidence": confidence, "rationale": "as told"}

    return think


def winner(which: str, confidence: float = 0.8) -> Brain:
    """Always prefer one position."""
    return lambda _: {"winner": which, "confidence": confidence, "rationale": "as told"}


def prefers(text: str, confidence: float = 0.8) -> Brain:
    """Prefer the reply that holds `text`, wherever it is shown."""

    def think(body: dict[str, Any]) -> Answer:
        shown = body["messages"][1]["content"]
        first = shown.split("<<<REPLY 1", 1)[1].split("<<<REPLY 2", 1)[0]
        return {"winner": "1" if text in first else "2", "confidence": confidence, "rationale": "the better one"}

    return think


@dataclass
class JudgeServer:
    """Where it listens, how it answers, and what it was asked."""

    url: str
    brain: Brain
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    retry_after: str | None = None
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def judge_server(brain: Brain) -> Iterator[JudgeServer]:
    """Run the server on a loopback port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "judge", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
                server.asked.append(body)
                server.authorizations.append(self.headers.get("authorization", ""))
            try:
                answer = server.brain(body)
            finally:
                with server.lock:
                    server.at_once -= 1
            if isinstance(answer, int):
                message = f"{answer} as told; you sent {sorted(body)} and {self.headers.get('authorization')}"
                self._send(answer, {"error": {"message": message, "type": "told"}})
                return
            content = answer if isinstance(answer, str) else json.dumps(answer)
            self._send(
                200,
                {
                    "id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
                    "usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100},
                },
            )  # fmt: skip

        def _send(self, status: int, document: dict[str, Any]) -> None:
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            if server.retry_after is not None:
                self.send_header("retry-after", server.retry_after)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = JudgeServer(f"http://127.0.0.1:{http.server_port}/v1", brain)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
