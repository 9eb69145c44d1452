"""Somebody's own engine, as small as it can be: an OpenAI-compatible server, in this process or (`main`) in one of its own.

python -m tests.own_engine 8000
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "my-model"
USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}


class OwnEngine(ThreadingHTTPServer):
    """`key`: whoever has another is refused. The other fields say in what it differs from a well-behaved server."""

    daemon_threads = True

    def __init__(self, port: int = 0, key: str | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.key, self.done, self.usage, self.lists = key, True, True, True
        self.html = False
        self.completion_tokens = False
        """Refuses `max_tokens`, as newer hosted models do."""
        self.adapters: list[str] | None = None
        """None: it can't load any, as every server but a vLLM."""
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def answer(self, path: str, authorization: str | None, body: dict[str, Any]) -> tuple[int, Any]:
        """A status, and a document, or a list of what is streamed."""
        self.asked.append((path, body))
        if self.key is not None and authorization != f"Bearer {self.key}":
            return 401, _error("Incorrect API key provided")
        if path == "/v1/models":
            names = [MODEL, *(self.adapters or [])]
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
            return (200, listed) if self.lists else (404, _error("Not Found"))
        if path == "/v1/load_lora_adapter" and self.adapters is not None:
            return 404, _error(f"Loading lora {body['lora_name']} failed: No adapter found for {body['lora_path']}")
        if path != "/v1/chat/completions":
            return 404, _error("Not Found")
        if body["model"] not in (MODEL, *(self.adapters or [])):
            return 404, _error(f"The model `{body['model']}` does not exist.")
        if self.completion_tokens and "max_tokens" in body:
            return 400, _error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return 200, self._streamed(body) if body.get("stream") else _completion(body) | {"usage": USAGE}

    def _streamed(self, body: dict[str, Any]) -> list[Any]:
        chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        delta = {"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
        events: list[Any] = [chunk | {"choices": [delta]}]
        if self.usage and (body.get("stream_options") or {}).get("include_usage"):
            events.append(chunk | {"choices": [], "usage": USAGE})
        return [*events, "[DONE]"] if self.done else events


class _Handler(BaseHTTPRequestHandler):
    server: OwnEngine

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was asked is kept."""

    def _answer(self, body: dict[str, Any]) -> None:
        status, document = self.server.answer(self.path, self.headers.get("authorization"), body)
        if isinstance(document, list):
            said = [event if isinstance(event, str) else json.dumps(event) for event in document]
            self._send(status, "text/event-stream", "".join(f"data: {event}\n\n" for event in said))
        elif self.server.html:
            self._send(status, "text/html", "<html>Welcome!</html>")
        else:
            self._send(status, "application/json", json.dumps(document))

    def _send(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def own_engine(key: str | None = None) -> Iterator[OwnEngine]:
    """A running server in this process."""
    server = OwnEngine(key=key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Your order K-472 is on its way."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


if __name__ == "__main__":
    OwnEngine(int(sys.argv[1])).serve_forever()
