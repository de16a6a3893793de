"""Helpers for checks on engines: simulate a run, list registrations, compare states."""

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
    """Fire the events of a run on a ``FakeEngine``.

    Args:
        fake: The ``FakeEngine``.
        outputs: Outputs of the step in one epoch, in order; all epochs have the same outputs.
        metrics: Metrics that are added to ``engine.state.metrics`` at the end of each iteration and epoch.
        epochs: Number of epochs.
        stop: Whether to end the run when a handler calls ``terminate()``.
    """
    state = fake.state
    state.max_epochs, state.epoch_length, state.dataloader = epochs, len(outputs), outputs
    state.iteration = state.epoch = 0
    fake.fire(Events.STARTED)
    for epoch in range(1, epochs + 1):
        fake.fire(Events.EPOCH_STARTED, epoch=epoch)
        for number, output in enumerate(outputs):
            fake.fire(Events.GET_BATCH_STARTED)
            # An engine notices the end of its data when it requests the first batch of the next epoch.
            if epoch > 1 and number == 0:
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
    """Return a description of each handler and of each state that is registered with an engine."""
    found = [f"{each.handler!r} at {each.event}" for each in engine.registrations()]
    return found + [f"a state under {key!r}" for key in engine.state_dict().get("handlers", ())]


@contextmanager
def unchanged_state(engine: Any, *names: str) -> Iterator[None]:
    """Require that the ``with`` block neither replaces nor changes these attributes of an engine's state."""
    before = {name: getattr(engine.state, name) for name in names}
    copies = copy.deepcopy(before)
    yield
    for name, value in before.items():
        now = getattr(engine.state, name)
        require(
            now is value and equal(now, copies[name]),
            f"engine.state.{name} changed from {copies[name]!r} to {now!r}; other handlers read this attribute, so change a copy "
            "instead",
        )


def equal(first: Any, second: Any) -> bool:
    """Return whether two values are equal; the values can contain tensors and NumPy arrays."""
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
