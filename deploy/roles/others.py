"""How the other roles are that `trimtab up` runs, as their admin ports say: so that one address speaks for all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from feedback.clock import Clock

WITHIN_S = 1.0
KEPT_S = 1.0
"""How long an answer counts: whoever asks us does not thereby ask three others as often as they like."""

SILENT = "it does not answer"


class OtherRoles:
    """Roles by name, with the addresses of their admin ports. Belongs to one event loop."""

    def __init__(self, urls: Mapping[str, str], clock: Clock) -> None:
        self._urls, self._clock = dict(sorted(urls.items())), clock
        self._said: dict[str, str | None] = {}
        self._said_at_s = -KEPT_S
        self._asking = asyncio.Lock()

    async def __call__(self) -> Mapping[str, str | None]:
        """What each waits for; None where it is ready."""
        async with self._asking:
            if self._urls and self._clock.monotonic_s() - self._said_at_s >= KEPT_S:
                async with httpx.AsyncClient(timeout=WITHIN_S, trust_env=False) as client:
                    waiting = await asyncio.gather(*(_ask(client, url) for url in self._urls.values()))
                self._said = dict(zip(self._urls, waiting, strict=True))
                self._said_at_s = self._clock.monotonic_s()
            return self._said


async def _ask(client: httpx.AsyncClient, url: str) -> str | None:
    try:
        answer = await client.get(f"{url}/readyz")
        if answer.status_code == 200:
            return None
        return str(answer.json()["reason"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return SILENT
