"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest

from glowplug import Engine, Events


@pytest.fixture
def identity():
    """Return an engine whose step returns its batch."""
    return Engine(lambda engine, batch: batch)


@pytest.fixture
def fired():
    """Return a function that records the names of an engine's events, by default all."""

    def record(engine, *events):
        names = []
        for event in events or Events:
            engine.add_event_handler(event, lambda *_, name=event.name: names.append(name))
        return names

    return record


@pytest.fixture
def batches():
    """Return a function that records the batches of an engine's steps per epoch."""

    def record(engine):
        epochs = []
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: epochs.append([]))
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: epochs[-1].append(e.state.batch))
        return epochs

    return record


class Unsized:
    """Re-iterable data without a length."""

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


@pytest.fixture
def unsized():
    """Return the class of re-iterable data without a length."""
    return Unsized
