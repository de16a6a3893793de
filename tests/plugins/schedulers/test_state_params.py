"""Schedulers of attributes of an engine's state."""

import pytest

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_schedulers import (
    ExpStateScheduler,
    LambdaStateScheduler,
    MultiStepStateScheduler,
    PiecewiseLinearStateScheduler,
    StateParamScheduler,
    StepStateScheduler,
)

CASES = {
    "exp": (lambda **o: ExpStateScheduler(2.0, 0.5, "x", **o), [1.0, 0.5, 0.25, 0.125]),
    "step": (lambda **o: StepStateScheduler(2.0, 0.5, 3, "x", **o), [2.0, 2.0, 1.0, 1.0]),
    "multi-step": (lambda **o: MultiStepStateScheduler(2.0, 0.5, [2, 4], "x", **o), [2.0, 1.0, 1.0, 0.5]),
    "lambda": (lambda **o: LambdaStateScheduler(lambda event: event * 2, "x", **o), [2, 4, 6, 8]),
    "piecewise": (
        lambda **o: PiecewiseLinearStateScheduler([(2, 0.5), (4, 1.5)], "x", **o),
        [0.5, 0.5, 1.0, 1.5],
    ),
}
each_scheduler = pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)


@each_scheduler
def test_values(make, expected):
    """The first value has the index 1, and each value applies to the next iteration (H-120, H-121)."""
    seen = []
    engine = Engine(lambda engine, batch: seen.append(engine.state.x))
    make(create_new=True, save_history=True).attach(engine)
    state = engine.run(range(4))
    assert seen == [None, *expected[:3]]
    assert state.x == expected[3]
    assert state.param_history == {"x": expected}


@each_scheduler
def test_simulated_values(make, expected):
    """The simulation gives the same values (H-121)."""
    scheduler = make()
    options = {
        name: getattr(scheduler, name)
        for name in ("initial_value", "gamma", "step_size", "milestones", "lambda_obj", "param_name")
        if hasattr(scheduler, name)
    }
    if isinstance(scheduler, PiecewiseLinearStateScheduler):
        del options["milestones"]
        options["milestones_values"] = [(2, 0.5), (4, 1.5)]
    rows = type(scheduler).simulate_values(4, **options)
    assert rows == [[i, value] for i, value in enumerate(expected)]


def test_integers_as_values():
    """A PiecewiseLinearStateScheduler gives floats, even for milestones whose values are integers (H-121)."""
    rows = PiecewiseLinearStateScheduler.simulate_values(
        5, milestones_values=[(2, 0), (4, 1)], param_name="x"
    )
    assert rows == [[0, 0.0], [1, 0.0], [2, 0.5], [3, 1.0], [4, 1.0]]
    assert {type(value) for _, value in rows} == {float}


def test_per_epoch():
    """At EPOCH_COMPLETED, each epoch has one value (H-120)."""
    seen = []
    engine = Engine(lambda engine, batch: seen.append(engine.state.x))
    engine.state.x = 2.0
    ExpStateScheduler(2.0, 0.5, "x").attach(engine, Events.EPOCH_COMPLETED)
    engine.run(range(2), max_epochs=3)
    assert seen == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]


def test_add_event_handler():
    """Without attach(), the attribute is created at the first event (H-120)."""
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED, ExpStateScheduler(2.0, 0.5, "x"))
    assert engine.run([0]).x == 1.0


def test_missing_attribute():
    """Creating the attribute causes a warning unless create_new is true (H-120)."""
    engine = Engine(lambda engine, batch: None)
    with pytest.warns(
        GlowplugWarning, match=r"ExpStateScheduler creates the attribute 'x' .* pass create_new=True"
    ):
        ExpStateScheduler(2.0, 0.5, "x").attach(engine)
    assert engine.state.x is None


def test_existing_attribute():
    """With create_new, an attribute that exists is an error, and nothing is attached (H-120)."""
    engine = Engine(lambda engine, batch: None)
    engine.state.x = 5.0
    with pytest.raises(ValueError, match="state already has the attribute 'x'"):
        ExpStateScheduler(2.0, 0.5, "x", create_new=True).attach(engine)
    assert engine.registrations() == ()
    assert engine.state.x == 5.0


def test_own_scheduler():
    """A subclass only computes the value from the index, which may be a list (H-120)."""

    class Pair(StateParamScheduler):
        def get_param(self):
            return [self.event_index, -self.event_index]

    engine = Engine(lambda engine, batch: None)
    Pair("x", create_new=True).attach(engine)
    assert engine.run(range(3)).x == [3, -3]
    assert Pair.simulate_values(2, param_name="x") == [[0, 1, -1], [1, 2, -2]]


def test_function_is_not_saved():
    """The function of a LambdaStateScheduler is not part of its state, which contains plain values only (H-121)."""
    state = CASES["lambda"][0]().state_dict()
    assert state == {"counts": {}, "event_index": 0, "param_name": "x", "save_history": False}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LambdaStateScheduler(1, "x"), ValueError, "must be a function of the event index, got 1"),
        (lambda: PiecewiseLinearStateScheduler([], "x"), ValueError, "PiecewiseLinearStateScheduler: milestones_values"),
    ],
)  # fmt: skip
def test_invalid(make, error, message):
    """Invalid arguments are refused with their value (H-121)."""
    with pytest.raises(error, match=message):
        make()
