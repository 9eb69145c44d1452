"""An OpenAI-compatible server that answers at once, plainly or in chunks: what stands behind every contestant.

    python -P bench/peers/upstream.py [--port 0] [--words 60] [--chunks 32]

A bare epoll loop in one thread, so that it costs far less than whatever asks it; prints its port. No two replies are alike, or
a memory of texts would make the redaction of replies look free. `GET /served` counts what was answered.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

WORDS = [
    "I",
    "have",
    "looked",
    "at",
    "your",
    "order",
    "and",
    "see",
    "that",
    "the",
    "parcel",
    "left",
    "our",
    "warehouse",
    "yesterday",
    "so",
    "it",
    "should",
    "be",
    "with",
    "you",
    "by",
    "Friday",
    "if",
    "it",
    "has",
    "not",
    "come",
    "by",
    "then",
    "please",
    "write",
    "to",
    "us",
    "again",
    "and",
    "we",
    "will",
    "send",
    "you",
    "another",
    "one",
    "at",
    "no",
    "cost",
    "to",
    "you",
    "thank",
    "you",
]
MODEL = "gpt-4o-mini"
"""A name that gateways have in their catalogues."""
LETTERS = bytes.maketrans(b"0123456789", b"bcdfghklmn")
MARK = b"########"
"""Where the number of a reply goes, in letters: a run of digits would look like somebody's telephone number."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)")
_JSON = b"content-type: application/json\r\n"


def in_letters(number: int) -> bytes:
    """Eight letters, different for each number below 10^8."""
    return (b"%08d" % (number % 100_000_000)).translate(LETTERS)


@dataclass(frozen=True)
class Request:
    """One request as it came; `size` is how many bytes of the connection it took."""

    line: bytes
    body: bytes
    size: int


def take(received: bytes) -> Request | None:
    """The first request in what came so far, None until it is complete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = received[:end].lower(), end + 4
    line = received[: received.find(b"\r\n")]
    if b"\r\ntransfer-encoding: chunked" in head:
        last = received.find(b"0\r\n\r\n", start)
        return None if last < 0 else Request(line, received[start:last], last + 5)
    found = _LENGTH.search(head)
    size = start + (int(found[1]) if found else 0)
    return Request(line, received[start:size], size) if len(received) >= size else None


def _response(status: bytes, document: object) -> bytes:
    body = json.dumps(document, separators=(",", ":")).encode()
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, _JSON, len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Replies:
    """Every byte that is said, made beforehand but for the number."""

    def __init__(self, words: int, chunks: int) -> None:
        said = [WORDS[number % len(WORDS)] for number in range(words)]
        text = f"{MARK.decode()} {' '.join(said)}."
        usage = {"prompt_tokens": 180, "completion_tokens": words, "total_tokens": 180 + words}
        usage_with_parts: dict[str, object] = usage | {"prompt_tokens_details": {"cached_tokens": 128}}
        common: dict[str, object] = {"id": f"chatcmpl-{MARK.decode()}", "created": 1_790_000_000, "model": MODEL}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        plain = common | {"object": "chat.completion", "choices": [choice], "usage": usage_with_parts}
        self._plain = _response(b"200 OK", plain)
        step = -(-len(text) // chunks)
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text[at : at + step]} for at in range(0, len(text), step)]
        part = common | {"object": "chat.completion.chunk"}
        choices: list[list[dict[str, object]]]
        choices = [[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}] for delta in deltas]
        choices.append([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
        self._head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self._parts = [self._event(part | {"choices": one}) for one in choices]
        self._usage = self._event(part | {"choices": [], "usage": usage_with_parts})
        self._done = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    @staticmethod
    def _event(document: object) -> bytes:
        return _chunk(b"data: %b\n\n" % json.dumps(document, separators=(",", ":")).encode())

    def plain(self, number: int) -> bytes:
        return self._plain.replace(MARK, in_letters(number))

    def stream(self, number: int, usage: bool) -> Iterator[bytes]:
        """Head, then chunk after chunk."""
        letters = in_letters(number)
        yield self._head
        for part in self._parts:
            yield part.replace(MARK, letters)
        if usage:
            yield self._usage.replace(MARK, letters)
        yield self._done


@dataclass
class Upstream:
    """What answers one request after the other."""

    replies: Replies
    plain: int = 0
    streams: int = 0
    models: bytes = field(
        default=_response(b"200 OK", {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "b"}]})
    )

    def answer(self, request: Request) -> Iterator[bytes]:
        """What is sent, piece by piece."""
        if b"/chat/completions" in request.line:
            if _STREAM.search(request.body):
                self.streams += 1
                yield from self.replies.stream(self.streams, _USAGE.search(request.body) is not None)
            else:
                self.plain += 1
                yield self.replies.plain(self.plain)
        elif b"/models" in request.line or b"/health" in request.line:
            yield self.models
        elif b"/served" in request.line:
            yield _response(b"200 OK", {"plain": self.plain, "streams": self.streams})
        else:
            error: dict[str, object] = {
                "type": "invalid_request_error",
                "code": "not_found",
                "message": "unknown path",
                "param": None,
            }
            yield _response(b"404 Not Found", {"error": error})


def serve(listening: socket.socket, upstream: Upstream) -> None:
    """Until killed. A send blocks where a contestant does not read: it is the only one that is asked anything then."""
    poll, connections, waiting = select.epoll(), dict[int, socket.socket](), dict[int, bytes]()
    poll.register(listening.fileno(), select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == listening.fileno():
                connection, _ = listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()], waiting[connection.fileno()] = connection, b""
                poll.register(connection.fileno(), select.EPOLLIN)
                continue
            connection = connections[number]
            try:
                received = connection.recv(1_048_576)
                left = waiting[number] + received
                while (request := take(left)) is not None:
                    for piece in upstream.answer(request):
                        connection.sendall(piece)
                    left = left[request.size :]
                waiting[number] = left
            except OSError:
                received = b""
            if not received:
                poll.unregister(number)
                connections.pop(number).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--chunks", type=int, default=32)
    asked = parser.parse_args()
    listening = socket.create_server(("127.0.0.1", asked.port), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    serve(listening, Upstream(Replies(asked.words, asked.chunks)))


if __name__ == "__main__":
    main()
