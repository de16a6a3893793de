"""A copy of a model whose weights are an average, and the exchange of both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from numbers import Integral
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

Buffers: TypeAlias = Literal["copy", "update", "ema_train"]
AverageFunction: TypeAlias = Callable[[list[Tensor], list[Tensor], int], None]
"""Function ``f(averages, values, number)`` that updates averages of ``number`` values in place, such as those of
``torch.optim.swa_utils``."""

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COMPILED = "_orig_mod"


def check_count(owner: str, name: str, value: object) -> None:
    """Raise an error if an option is neither ``None`` nor an integer of at least 1."""
    if value is not None and (not isinstance(value, Integral) or value < 1):
        raise ValueError(f"{owner}: {name} must be an integer of at least 1, got {value!r}")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside ``torch.compile``, ``DistributedDataParallel`` and ``DataParallel``.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(model)) is model
        True
    """
    while True:
        if isinstance(model, _PARALLEL):
            model = model.module
        # The class of compiled modules is not imported, because its import takes seconds.
        elif _COMPILED in model._modules:  # noqa: SLF001 - a compiled module forwards other attributes
            model = model.get_submodule(_COMPILED)
        else:
            return model


class AveragedCopy:
    """A model and a copy of it whose weights are an average of the weights that the model has had.

    Args:
        owner: Name of the handler, for error messages.
        model: The model; wrappers are removed.
        handle_buffers: ``"copy"`` if the copy gets the buffers of the model, ``"update"`` if its buffers are averages as well,
            ``"ema_train"`` if the copy is in training mode and updates its own buffers.

    Attributes:
        model: The model without wrappers.
        averaged: The copy. Its parameters do not require gradients.
        is_swapped: Whether the model currently has the weights of the copy.

    Raises:
        ValueError: If ``model`` is not a module, or if ``handle_buffers`` is unknown.

    Example:
        >>> from torch.optim.swa_utils import get_swa_multi_avg_fn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> copied = AveragedCopy("SWAHandler", model)
        >>> for number, weight in enumerate([1.0, 2.0, 6.0]):
        ...     _ = nn.init.constant_(model.weight, weight)
        ...     copied.update(get_swa_multi_avg_fn(), number)
        >>> copied.averaged.weight.item()
        3.0
    """

    def __init__(self, owner: str, model: nn.Module, handle_buffers: Buffers = "copy") -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(  # noqa: TRY004 - ignite raises ValueError here
                f"{owner}: model should be an instance of nn.Module, got {model!r}"
            )
        if handle_buffers not in get_args(Buffers):
            raise ValueError(
                f"{owner}: handle_buffers must be one of {', '.join(map(repr, get_args(Buffers)))}, got {handle_buffers!r}"
            )
        self._owner = owner
        self.model = unwrapped(model)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False).train(handle_buffers == "ema_train")
        self.handle_buffers = handle_buffers
        self.is_swapped = False

    def update(self, average: AverageFunction, number: int) -> None:
        """Add the current weights of the model to the average.

        Args:
            average: Function that updates floating-point tensors. Other tensors are copied.
            number: Number of values that the average consists of so far; passed to ``average``.

        Raises:
            RuntimeError: If the model has the weights of the copy.
        """
        if self.is_swapped:
            raise RuntimeError(
                f"{self._owner}: the model was trained within averaged_weights(), where it has the averaged weights; call the "
                "trainer outside this block"
            )
        to_average = list(_pairs(self.averaged.parameters(), self.model.parameters()))
        to_copy: list[tuple[Tensor, Tensor]] = []
        if self.handle_buffers != "ema_train":
            buffers = list(_pairs(self.averaged.buffers(), self.model.buffers()))
            (to_average if self.handle_buffers == "update" else to_copy).extend(buffers)
        with torch.no_grad():
            for is_number, targets, sources in _groups(to_average):
                if is_number:
                    average(targets, sources, number)
                else:
                    _copy(targets, sources)
            for _, targets, sources in _groups(to_copy):
                _copy(targets, sources)

    @contextmanager
    def swapped(self) -> Iterator[nn.Module]:
        """Give the model the weights and buffers of the copy within a ``with`` block.

        The tensors of the model stay the same objects in the same memory, so wrappers, optimizers and compiled code keep working.
        """
        if self.is_swapped:
            # An outer block restores the weights.
            yield self.model
            return
        tensors = list(_tensors(self.model))
        kept = [tensor.detach().clone() for tensor in tensors]
        self.is_swapped = True
        try:
            self._give(tensors, _tensors(self.averaged))
            yield self.model
        finally:
            self._give(tensors, kept)
            self.is_swapped = False

    @staticmethod
    def _give(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
        with torch.no_grad():
            for _, first, second in _groups(_pairs(targets, sources)):
                _copy(first, second)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights and buffers."""
        # A Python dict, because torch.load(weights_only=True) checks the attributes of an OrderedDict.
        return {name: _cloned(value) for name, value in self.averaged.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load averaged weights and buffers.

        Raises:
            ValueError: If the names or the shapes differ from those of the model. In that case, nothing is loaded.
        """
        own = self.averaged.state_dict()
        differing = sorted(
            name
            for name in own.keys() | state.keys()
            if name not in own or name not in state or _shape(own[name]) != _shape(state[name])
        )
        if differing:
            raise ValueError(
                f"{self._owner}: the averaged weights belong to another model: {', '.join(differing[:5])} "
                f"{'is' if len(differing) == 1 else 'are'} missing, unknown or of another shape; load the state into a handler of "
                "the model that it was saved with"
            )
        self.averaged.load_state_dict(state)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _pairs(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    # The user may have moved the copy to another device, to save memory.
    return (
        (target.detach(), source.detach().to(target.device))
        for target, source in zip(targets, sources, strict=True)
    )


def _groups(pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[bool, list[Tensor], list[Tensor]]]:
    """Group pairs by device and type, so that one operation updates many tensors; say whether the type can be averaged."""
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in pairs:
        targets, sources = groups.setdefault((target.device, target.dtype), ([], []))
        targets.append(target)
        sources.append(source)
    for (_, dtype), (targets, sources) in groups.items():
        yield dtype.is_floating_point or dtype.is_complex, targets, sources


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    torch._foreach_copy_(targets, sources)


def _cloned(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else None
