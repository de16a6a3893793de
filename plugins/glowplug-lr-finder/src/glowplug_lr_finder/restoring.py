"""Restores a trainer and its objects after a search."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from glowplug.typing import EngineProtocol, Stateful


class Trainer(EngineProtocol, Stateful, Protocol):
    """An engine with a state that can be saved, such as ``glowplug.Engine``."""


# The attributes of State that the state of an engine does not contain.
_UNSAVED = ("output", "batch", "metrics", "dataloader", "times", "outcome", "run_start")


@contextmanager
def restored(
    trainer: Trainer, objects: Mapping[str, Stateful], optimizer: torch.optim.Optimizer
) -> Iterator[None]:
    """Restore everything that a run of the trainer changes, when the ``with`` block ends.

    Args:
        trainer: Its counters, its handlers' states and its position in the data are restored.
        objects: Their states and, for modules, the training mode are restored.
        optimizer: The parameters that it updates and their gradients are restored, even if their model is not in ``objects``.

    Example:
        >>> from glowplug import Engine
        >>> model = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> before = model.weight.item()
        >>> with restored(Engine(print), {"model": model}, optimizer):
        ...     _ = nn.init.constant_(model.weight, 7.0)
        >>> model.weight.item() == before
        True
    """
    with ExitStack() as undo:
        # In reverse order: the random states last, because loading a state may draw random numbers.
        undo.enter_context(_random_states())
        undo.callback(_load_trainer, trainer, _saved(trainer), _unsaved(trainer))
        for each in objects.values():
            # A dict or, with a module, a subclass of it that has further attributes.
            state: Any = copy.deepcopy(each.state_dict())
            undo.callback(each.load_state_dict, state)
            for module in each.modules() if isinstance(each, nn.Module) else ():
                undo.callback(setattr, module, "training", module.training)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = None if parameter.grad is None else parameter.grad.detach().clone()
                undo.callback(_give_back, parameter, parameter.detach().clone(), gradient)
        yield


def _saved(trainer: Trainer) -> dict[str, Any]:
    state = copy.deepcopy(dict(trainer.state_dict()))
    if state.get("resume"):
        # In the same process, a run that was terminated between two epochs can continue.
        state["resume"]["terminated"] = False
    return state


def _unsaved(trainer: Trainer) -> dict[str, Any]:
    state = trainer.state
    values = {name: getattr(state, name) for name in _UNSAVED}
    return {**values, "metrics": dict(state.metrics), "times": dict(state.times)}


def _load_trainer(trainer: Trainer, saved: dict[str, Any], unsaved: Mapping[str, Any]) -> None:
    trainer.load_state_dict(saved)
    for name, value in unsaved.items():
        setattr(trainer.state, name, value)


def _give_back(parameter: Tensor, value: Tensor, gradient: Tensor | None) -> None:
    with torch.no_grad():
        parameter.copy_(value)
    parameter.grad = gradient


@contextmanager
def _random_states() -> Iterator[None]:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]  # torch has no annotation
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global generator is restored
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - the global generator is restored
