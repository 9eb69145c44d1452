"""A small real OpenAI-compatible server for tests: answers over HTTP as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Raw:
    """A whole response, byte for byte; `missing` bytes are promised and never sent, the connection breaks instead."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    missing: int = 0


class Hangs(Exception):
    """Raised by a brain: send a byte of the answer now and then, until the client has had enough."""


Answer = dict[str, Any] | str | int | Raw
"""A JSON object or text that the judge says, an HTTP status to fail with, or a response of any kind."""

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


def complains(of: str, message: str, otherwise: Brain) -> Brain:
    """Refuse questions that use the parameter `of`, as a server does that does not know it."""

    def think(body: dict[str, Any]) -> Answer:
        if of in body:
            return Raw(json.dumps({"error": {"message": message, "param": of}}).encode(), 400)
        return otherwise(body)

    return think


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
    usage: Any = field(
        default_factory=lambda: {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
    )
    models: Answer = field(default_factory=lambda: {"object": "list", "data": [{"id": "judge", "object": "model"}]})
    hung_up: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    judge: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self.judge.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.judge.lock:
            self.judge.at_once += 1
            self.judge.most_at_once = max(self.judge.most_at_once, self.judge.at_once)
            self.judge.asked.append(body)
            self.judge.authorizations.append(self.headers.get("authorization", ""))
        try:
            answer = self.judge.brain(body)
        except Hangs:
            self._hang()
            return
        finally:
            with self.judge.lock:
                self.judge.at_once -= 1
        if isinstance(answer, dict):
            answer = json.dumps(answer)
        if isinstance(answer, str):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
            completion = {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
            }
            answer = completion | ({} if self.judge.usage is None else {"usage": self.judge.usage})
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, int):
            message = f"{answer} as told; you sent {self.headers.get('authorization')}"
            answer = Raw(json.dumps({"error": {"message": message, "type": "told"}}).encode(), answer)
        self._send(answer if isinstance(answer, Raw) else Raw(json.dumps(answer).encode()))

    def _send(self, raw: Raw) -> None:
        self.send_response(raw.status)
        self.send_header("content-type", raw.content_type)
        self.send_header("content-length", str(len(raw.body) + raw.missing))
        if self.judge.retry_after is not None:
            self.send_header("retry-after", self.judge.retry_after)
        self.end_headers()
        with suppress(OSError):  # the client may have had enough
            self.wfile.write(raw.body)
        self.close_connection = raw.missing > 0

    def _hang(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while not self.judge.closing.wait(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()
        self.judge.hung_up.set()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def judge_server(brain: Brain) -> Iterator[JudgeServer]:
    """Run the server on a loopback port of its own."""
    handler = type("Handler", (_Handler,), {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    judge = handler.judge = JudgeServer(f"http://127.0.0.1:{http.server_port}/v1", brain)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        judge.closing.set()
        http.shutdown()
        http.server_close()
