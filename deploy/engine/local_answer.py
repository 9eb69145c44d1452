"""The local engine's text as OpenAI's documents: chunks where a stream was asked for, else one completion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog

from deploy.engine.port import ChatRequest, EngineFailed, NotReady, Reply, Unsupported
from models.errors import JobFailed

log = structlog.get_logger()


class LocalAnswer:
    """An answer of the local engine."""

    def __init__(self, reply: Reply, request: ChatRequest) -> None:
        self.reply, self._request = reply, request

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self.reply.cancel()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for document in self._streamed() if self._request.stream else self._whole():
                yield document
        except EngineFailed as failed:
            raise _explained(failed) from failed.__cause__

    async def _whole(self) -> AsyncIterator[dict[str, Any]]:
        said: list[str] = []
        try:
            async for piece in self.reply:
                said.append(piece)
        except EngineFailed:
            yield self._completion("".join(said))  # what was said is logged, though nobody is told
            raise
        yield self._completion("".join(said))

    def _completion(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"choices": [self._choice("message", message)], "usage": self._usage}

    async def _streamed(self) -> AsyncIterator[dict[str, Any]]:
        begun = False
        async for piece in self.reply:
            if not begun:  # not before the engine has: what fails until then fails with a status
                begun = True
                yield _BEGINNING
            yield {"choices": [_choice("delta", {"content": piece}, None)], "usage": None}
        if self.reply.finish_reason is not None:
            if not begun:
                yield _BEGINNING
            yield {"choices": [self._choice("delta", {})], "usage": None}
            yield {"choices": [], "usage": self._usage}

    def _choice(self, kind: str, said: dict[str, Any]) -> dict[str, Any]:
        return _choice(kind, said, self.reply.finish_reason)

    @property
    def _usage(self) -> dict[str, int]:
        asked, said = self.reply.prompt_tokens, self.reply.completion_tokens
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _choice(kind: str, said: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, kind: said, "logprobs": None, "finish_reason": finish_reason}


_BEGINNING = {"choices": [_choice("delta", {"role": "assistant", "content": ""}, None)], "usage": None}


def _explained(failed: EngineFailed) -> Exception:
    error = failed.__cause__
    if isinstance(error, NotReady):
        return EngineFailed(str(error), 503, "not_ready")
    if isinstance(error, JobFailed):  # the base's chat template refuses this sequence of roles
        return Unsupported(str(error)[:300], "messages")
    log.error("engine_failed", error=type(error).__name__)  # no text of the error: it may quote what a user wrote
    return failed
