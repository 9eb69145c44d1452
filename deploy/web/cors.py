"""Which web pages may ask from the browser, with which headers, and what they may read of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from deploy.web.requests import HEADER as REQUEST_ID

OPENAI_HEADERS = (
    "OpenAI-Organization",
    "OpenAI-Project",
    "User-Agent",  # which Firefox and Safari ask for, and Chrome does not
    "X-Stainless-Arch",
    "X-Stainless-Custom-Poll-Interval",
    "X-Stainless-Helper-Method",
    "X-Stainless-Lang",
    "X-Stainless-OS",
    "X-Stainless-Package-Version",
    "X-Stainless-Poll-Helper",
    "X-Stainless-Retry-Count",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout",
)
"""What OpenAI's client for browsers sends (npm openai 6.49)."""


def allow_pages(app: ASGIApp, origins: Sequence[str], *, sent: Sequence[str], read: Sequence[str]) -> ASGIApp:
    """`app`, which lets pages of these origins in; `sent` and `read` are our own headers of requests and answers.

    It should be around everything that answers: what a page may not read, it reports as a network that is down.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", REQUEST_ID, *OPENAI_HEADERS, *sent],
        expose_headers=[REQUEST_ID, "Retry-After", *read],
    )
