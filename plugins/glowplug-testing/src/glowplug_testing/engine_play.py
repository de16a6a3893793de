"""What checks do with an engine: play a run on a fake, look at what is registered, keep an eye on its state."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from glowplug import Events
from glowplug.testing import FakeEngine
from glowplug_testing.checks import require


def play(
    fake: FakeEngine, outputs: list[Any], metrics: Mapping[str, Any], *, epochs: int = 2, stop: bool = True
) -> FakeEngine:
    """Fire on a fake what an engine fires in a run.

    Args:
        fake: the fake.
        outputs: what the step returns, one after the other, in each epoch.
        metrics: what there is at the end of each iteration and epoch.
        epochs: how many.
        stop: end the run where a handler asks for it.
    """
    state = fake.state
    state.max_epochs, state.epoch_length, state.dataloader = epochs, len(outputs), outputs
    state.iteration = state.epoch = 0
    fake.fire(Events.STARTED)
    for epoch in range(1, epochs + 1):
        fake.fire(Events.EPOCH_STARTED, epoch=epoch)
        for number, output in enumerate(outputs):
            fake.fire(Events.GET_BATCH_STARTED)
            if epoch > 1 and number == 0:  # an engine finds out here that its data has come to an end
                fake.fire(Events.DATALOADER_STOP_ITERATION)
            fake.fire(Events.GET_BATCH_COMPLETED, batch=output)
            fake.fire(Events.ITERATION_STARTED, iteration=state.iteration + 1)
            fake.fire(Events.ITERATION_COMPLETED, output=output, metrics={**state.metrics, **metrics})
            if fake.terminated and stop:
                return fake.fire(Events.TERMINATE).end_run()
        fake.fire(Events.EPOCH_COMPLETED, metrics={**state.metrics, **metrics})
        if fake.terminated and stop:
            return fake.fire(Events.TERMINATE).end_run()
    return fake.end_run()


def registered(engine: Any) -> list[str]:
    """Return what is registered at an engine, as text: handlers by event, and keys of states."""
    found = [
        f"{registration.handler!r} at {channel.key}"
        for channel in engine._channels.values()  # noqa: SLF001 - the kit is part of the core
        for registration in channel.registrations
    ]
    return found + [f"a state under {key!r}" for key in engine.state_dict().get("handlers", ())]


@contextmanager
def left_alone(engine: Any, *names: str) -> Iterator[None]:
    """Require that the block does not change attributes of an engine's state, neither the objects nor what is in them."""
    before = {name: getattr(engine.state, name) for name in names}
    copies = copy.deepcopy(before)
    yield
    for name, value in before.items():
        now = getattr(engine.state, name)
        require(
            now is value and equal(now, copies[name]),
            f"engine.state.{name} was {copies[name]!r} before, and is {now!r}; it belongs to the user and to the handlers that "
            "come afterwards. Work on a copy",
        )


def equal(first: Any, second: Any) -> bool:
    """Return whether two values are equal, tensors and arrays in them included."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    if type(first) is not type(second):
        return False
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(first, torch.Tensor):
        return bool(
            first.shape == second.shape
            and first.dtype == second.dtype
            and first.requires_grad == second.requires_grad
            and torch.equal(first.nan_to_num(), second.nan_to_num())
        )
    if numpy is not None and isinstance(first, numpy.ndarray):
        return bool(numpy.array_equal(first, second))
    return bool(first == second) or bool(first != first and second != second)  # noqa: PLR0124 - both are NaN
