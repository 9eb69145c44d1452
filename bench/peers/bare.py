"""A forwarder that does nothing else: uvicorn, aiohttp, the body decoded and encoded anew both ways. `bare.py PORT UPSTREAM`.

It keeps, redacts, assigns and limits nothing. What it takes is what server and client in Python cost on a machine; what ours
takes beside it is the price of ours, on a fast machine as on a slow one.
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import msgspec
import uvicorn

_encode, _decode = msgspec.json.encode, msgspec.json.decode


def forwarder(upstream: int) -> Any:
    """An ASGI app before the upstream at that port."""
    url, sessions = f"http://127.0.0.1:{upstream}/v1/chat/completions", list[aiohttp.ClientSession]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            headers = {"content-type": "application/json"}
            sessions.append(aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await sessions.pop().close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        asked = _decode(body + message["body"])
        async with sessions[0].post(url, data=_encode(asked)) as answer:
            head = [(b"content-type", answer.content_type.encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": head})
            if asked.get("stream"):
                async for piece in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            else:
                await send({"type": "http.response.body", "body": _encode(_decode(await answer.read()))})

    return app


if __name__ == "__main__":
    app = forwarder(int(sys.argv[2]))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
