"""Passes of a model that differ from one before only from some layer on begin there, with what that layer was given then."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import Module, ModuleList

from models.batches import can_share

_LAYERS = re.compile(r"^(.*?)\.(\d+)\.")

T = TypeVar("T")


class Prefix:
    """The layers of a model of peft's, of which none before `first` differs between passes, and what they were given."""

    def __init__(self, layers: Sequence[Module], first: int) -> None:
        self.first = first
        self._layers = layers
        self._given: list[list[Tensor]] = [[] for _ in layers]

    @contextmanager
    def kept(self, *, every: bool = False) -> Iterator[None]:
        """The passes made meanwhile are those that later ones repeat: from the first layer on, or from any (`every`).

        Kept are the bytes of a token's width for each token, and for each layer.
        """
        layers = range(self.first, len(self._layers)) if every else range(self.first, self.first + 1)
        with ExitStack() as hooks:
            for number in layers if self._layers else ():
                self._given[number].clear()
                hooks.enter_context(_before(self._layers[number], _keep_in(self._given[number])))
            yield

    @contextmanager
    def begun_at(self, layer: int) -> Iterator[None]:
        """The same passes, in the same order and without a gradient, of which nothing has changed before the layer."""
        if not self._layers:
            yield
            return
        given = iter(self._given[layer])
        with ExitStack() as hooks:
            for skipped in self._layers[:layer]:
                hooks.enter_context(_passed(skipped))
            hooks.enter_context(_before(self._layers[layer], lambda _: next(given)))
            yield


def prefix_of(model: Any, adapted: Sequence[str]) -> Prefix:
    """That of the model whose modules with these names differ between passes; one without layers, which saves nothing,
    where they are no plain list of layers."""
    found = [match for name in adapted if (match := _LAYERS.match(name))]
    names = {match[1] for match in found}
    if len(names) == 1 and len(found) == len(adapted) and can_share(model.get_base_model()):
        layers = model.get_submodule(names.pop())
        return Prefix(list(layers) if isinstance(layers, ModuleList) else [], min(int(match[2]) for match in found))
    return Prefix([], 0)


def beside_base(model: Any, compute: Callable[[], T]) -> tuple[T, T]:
    """What `compute` finds with the adapter that is active in `model` (of peft), and then with none, without a gradient.

    It must make the same passes both times. The second time they begin at the adapter's first layer.
    """
    prefix = prefix_of(model, [name for name, layer in model.named_modules() if _is_adapted(layer)])
    with prefix.kept():
        ours = compute()
    with torch.no_grad(), model.disable_adapter(), prefix.begun_at(prefix.first):
        return ours, compute()


def _is_adapted(module: Module) -> bool:
    return isinstance(module, LoraLayer) and bool(set(module.active_adapters) & set(module.scaling))


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
