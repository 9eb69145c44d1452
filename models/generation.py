"""One reply under way: what is still to be read, what has been read, and the text so far."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from models.text_stream import TextStream

_GREEDY_BELOW = 1e-4  # so cold that the likeliest token is chosen anyway, and the division would overflow


class Generation:
    """An iterator over pieces of a reply's text. Close it when it is abandoned.

    `step` takes one step of these generations, `release` is called once, at the end. Belongs to one thread at a time.
    """

    def __init__(
        self,
        step: Callable[[Sequence[Generation]], Sequence[str | Exception]],
        release: Callable[[], None],
        prompt: Sequence[int],
        adapter: str | None,
        limit: int,
        sampler: Sampler,
        text: TextStream,
        memory: Any,
    ) -> None:
        self.prompt_tokens = len(prompt)
        self.completion_tokens = 0
        self.finish_reason: Literal["stop", "length"] | None = None if limit > 0 else "length"
        """None until the reply has ended."""
        self.adapter, self.memory = adapter, memory
        self.unread = list(prompt)
        """Ids that the model has not read yet."""
        self._step, self._release = step, release
        self._limit, self._sampler, self._text = limit, sampler, text
        self._open = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while self.finish_reason is None:
            [piece] = self._step([self])
            if isinstance(piece, Exception):
                self.close()
                raise piece
            if piece:
                return piece
        self.close()
        raise StopIteration

    def read(self, count: int, logits: Tensor) -> str:
        """`count` of the unread ids have been read, and `logits` [vocabulary] follow: the text that becomes certain."""
        self.unread = self.unread[count:]
        if self.unread:
            return ""
        token = self._sampler.choose(logits)
        self.completion_tokens += 1
        if token in self._text.end_ids:
            self.finish_reason = "stop"
            return self._text.flush()
        piece = self._text.push(token)
        if self._text.stopped:
            self.finish_reason = "stop"
        elif self.completion_tokens == self._limit:
            self.finish_reason = "length"
            piece += self._text.flush()
        self.unread = [token]
        return piece

    def close(self) -> None:
        """Give the adapter and the memory back; called at the end, and by whoever stops early."""
        if self._open:
            self._open = False
            self.memory = None
            self._release()

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.close()


class Sampler:
    """Chooses tokens at a temperature (0: the likeliest) from the smallest set that holds `top_p` of probability.

    Its random numbers are its own: what else is sampled meanwhile changes nothing.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.random = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed & (2**63 - 1))

    def choose(self, logits: Tensor) -> int:
        """A token, from logits [vocabulary]."""
        if self.temperature < _GREEDY_BELOW:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, index = probabilities.sort(descending=True)
            beyond = ordered.cumsum(0) - ordered >= self.top_p  # the first token always stays
            probabilities = torch.zeros_like(probabilities).scatter(0, index, ordered.masked_fill(beyond, 0.0))
        return int(torch.multinomial(probabilities, 1, generator=self.random))
