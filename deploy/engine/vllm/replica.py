"""One vLLM server, as a client sees it: its adapters, whether it is well, how likely it finds given replies.

Nothing is tried twice and nothing is remembered here. What goes wrong is one of the exceptions in `answers`, with a
sentence for an operator. After ReplicaAway what was asked may have happened all the same: `models` says what is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import aiohttp

from deploy.engine.remote.documents import at_most
from deploy.engine.vllm import answers
from deploy.engine.vllm.answers import NameTaken, NotUnderstood, ReplicaAway
from feedback.clock import Clock

ANSWER_S, LOAD_S, SCORE_S = 10.0, 120.0, 300.0
"""How long an answer may take; a load reads an adapter's files, perhaps over a network; scores wait their turn among chats."""
MAX_ANSWER_BYTES = 4 << 20
_OURS = aiohttp.ClientTimeout(total=None)
"""The clock's timeout holds, not aiohttp's."""


class Replica:
    """The server at `url` (without `/v1`). The session brings what every request needs, a key or TLS; it stays open."""

    def __init__(self, session: aiohttp.ClientSession, url: str, clock: Clock) -> None:
        self.url = url.rstrip("/")
        self._session, self._clock = session, clock

    async def healthy(self) -> bool:
        """Whether it says that it can serve."""
        try:
            status, _ = await self._ask("GET", "/health", ANSWER_S)
        except (ReplicaAway, NotUnderstood):
            return False
        return status == 200

    async def models(self) -> dict[str, str]:
        """Where each model was loaded from, by the name that requests give; the base is among them.

        Raises ReplicaAway, NotUnderstood.
        """
        status, body = await self._ask("GET", "/v1/models", ANSWER_S)
        found = answers.models(body) if status == 200 else None
        if found is None:
            raise answers.refusal(self.url, "list its models", status, answers.reason(body))
        return found

    async def context(self, model: str) -> int | None:
        """How many tokens of prompt and reply it has room for by this model; None where it does not say. Raises ReplicaAway."""
        _, body = await self._ask("GET", "/v1/models", ANSWER_S)
        return answers.context(body, model)

    async def load(self, name: str, path: PurePath) -> None:
        """Have it load the adapter in the directory `path`, as the server sees it, under `name`.

        Once it returns the server has read the files, now or earlier; only probes show that it applies them. Raises
        FilesNotVisible, AdapterRefused, NameTaken, ReplicaAway, NotUnderstood.
        """
        status, body = await self._ask("POST", "/v1/load_lora_adapter", LOAD_S, lora_name=name, lora_path=str(path))
        if status == 200:
            return
        why = answers.reason(body)
        if answers.loaded_already(status, why):
            await self._agree(name, path)
        elif status >= 500 and not await self.healthy():  # then that is no word on the adapter
            raise ReplicaAway(f"{self.url} is not well any more since it was to load adapter {name}: {why}")
        else:
            raise answers.load_refusal(self.url, name, str(path), status, why)

    async def unload(self, name: str) -> None:
        """Have it take no further requests for this adapter; what it does not know is unloaded already.

        Replies under way end well. Raises ReplicaAway, NotUnderstood.
        """
        status, body = await self._ask("POST", "/v1/unload_lora_adapter", ANSWER_S, lora_name=name)
        why = answers.reason(body)
        if status != 200 and not answers.unloaded_already(status, why):
            raise answers.refusal(self.url, f"unload adapter {name}", status, why)

    async def logprobs(self, model: str, token: int, contexts: Sequence[Sequence[int]], salt: str) -> list[float]:
        """Log-probability of `token` after each of these contexts (token ids, at least one), nats. One request.

        The token is the only one allowed: what vLLM reports is from before that. `prompt_logprobs`, which would take a
        whole reply at once, has ended servers that were not told the names of their LoRA layers, and `logprob_token_ids`
        takes the log-probabilities away from others in the same batch. Only who gives the same salt finds what is cached
        of it. Raises NotLoaded, NotANumber, ReplicaAway, NotUnderstood.
        """
        status, body = await self._ask(
            "POST",
            "/v1/completions",
            SCORE_S,
            model=model,
            prompt=[list(context) for context in contexts],
            max_tokens=1,
            temperature=0,
            allowed_token_ids=[token],
            ignore_eos=True,
            logprobs=0,
            return_tokens_as_token_ids=True,
            cache_salt=salt,
        )
        found = answers.logprobs(body, token, len(contexts)) if status == 200 else None
        if found is None:
            raise answers.score_refusal(self.url, model, status, answers.reason(body))
        return found

    async def _agree(self, name: str, path: PurePath) -> None:
        """The name is taken: that is well where it is for the same files."""
        root = (await self.models()).get(name)
        if root is None or PurePath(root) != path:
            raise NameTaken(
                f"{self.url} has an adapter {name} from {root or 'a path that it does not say'}, not from {path}: unload "
                f"it there, and find out who loads adapters beside Trimtab"
            )

    async def _ask(self, method: str, path: str, within_s: float, **fields: Any) -> tuple[int, bytes]:
        asked = self._session.request(
            method, self.url + path, json=fields or None, allow_redirects=False, timeout=_OURS
        )
        try:
            async with self._clock.timeout(within_s), asked as answer:
                return answer.status, await _all_of(answer)
        except TimeoutError:
            raise ReplicaAway(f"{self.url}{path} has not answered within {within_s:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ReplicaAway(f"{self.url} can't be reached ({str(error) or type(error).__name__})") from None


async def _all_of(answer: aiohttp.ClientResponse) -> bytes:
    body = await at_most(answer, MAX_ANSWER_BYTES)
    if body is None:
        raise NotUnderstood(f"{answer.url} answers with more than {MAX_ANSWER_BYTES >> 20} MiB: is that vLLM?")
    return body
