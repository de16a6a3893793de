"""The names of ignite's module about deterministic runs."""

import random

import numpy as np
import pytest
import torch

from glowplug import Engine, Events
from glowplug.engine import DeterministicEngine, keep_random_state


def draw():
    """Return a number of each generator."""
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002 - the global generator is tested


def test_deterministic_engine():
    """DeterministicEngine is another name of Engine (E-200)."""
    assert DeterministicEngine is Engine


def test_state_with_counters_only():
    """A state without a position, such as a state of ignite, starts the data again at its first batch (E-200)."""
    batches = []
    engine = DeterministicEngine(lambda engine, batch: batches.append(batch))
    engine.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 3, "rng_states": None})
    engine.run([1, 2, 3])
    assert batches == [1, 2, 3, 1, 2]


def test_random_state_is_kept():
    """A decorated function returns its result, and the next random numbers are those without its calls (E-207)."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - as above
    kept = keep_random_state(draw)
    first = kept()
    assert kept() == first == draw()
    assert kept.__name__ == "draw"


def test_after_an_exception():
    """The generators are also restored if the function raises an exception (E-207)."""
    # numpy imports its generator at the first access, and only the states of imported generators are kept.
    draw()

    @keep_random_state
    def fail():
        raise RuntimeError(str(draw()))

    errors = []
    for _ in range(2):
        with pytest.raises(RuntimeError) as caught:
            fail()
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_handler():
    """A decorated handler receives the engine, and does not change the random numbers of the run (E-207)."""
    runs = []
    for handler in (lambda engine: None, keep_random_state(lambda engine: draw() and engine.state.iteration)):
        torch.manual_seed(0)
        engine = Engine(lambda engine, batch: torch.rand(()).item())
        engine.add_event_handler(Events.ITERATION_COMPLETED, handler)
        outputs = []
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine, outputs=outputs: outputs.append(engine.state.output)
        )
        engine.run(range(5))
        runs.append(outputs)
    assert runs[0] == runs[1]
