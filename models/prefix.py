"""Passes of a model that differ from one before only from some layer on begin there, with what that layer was given then."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleList

from models.batches import can_share

_LAYERS = re.compile(r"^(.*?)\.\d+\.")


class Prefix:
    """The layers of a model of peft's, and what each was given, pass by pass. Kept are 4 bytes per token, width and layer."""

    def __init__(self, layers: Sequence[Module]) -> None:
        self._layers = layers
        self._given: list[list[Tensor]] = [[] for _ in layers]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The passes made meanwhile are those that later ones repeat."""
        with ExitStack() as hooks:
            for layer, given in zip(self._layers, self._given, strict=True):
                hooks.enter_context(_before(layer, _keep_in(given)))
            yield

    @contextmanager
    def begun_at(self, first: int) -> Iterator[None]:
        """The same passes, in the same order, of which nothing has changed before the layer `first`."""
        if not self._layers:
            yield
            return
        given = iter(self._given[first])
        with ExitStack() as hooks:
            for layer in self._layers[:first]:
                hooks.enter_context(_passed(layer))
            hooks.enter_context(_before(self._layers[first], lambda _: next(given)))
            yield


def prefix_of(model: Any, adapted: Sequence[str]) -> Prefix:
    """That of the model whose modules with these names differ between passes; one without layers, which saves nothing,
    where they are no plain list of layers."""
    names = {found[1] for name in adapted if (found := _LAYERS.match(name))}
    if len(names) == 1 and can_share(model.get_base_model()):
        layers = model.get_submodule(names.pop())
        return Prefix(list(layers) if isinstance(layers, ModuleList) else [])
    return Prefix([])


def _keep_in(given: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def keep(hidden: Tensor) -> Tensor:
        given.append(hidden)
        return hidden

    return keep


@contextmanager
def _before(layer: Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The layer is given what `change` makes of its hidden states."""
    hook = layer.register_forward_pre_hook(lambda _, given: (change(given[0]), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _passed(layer: Any) -> Iterator[None]:
    """The layer does nothing."""
    layer.forward = lambda hidden, *_, **__: hidden
    try:
        yield
    finally:
        del layer.forward
