"""State: attributes, counters, times and repr."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from glowplug import EventEnum, Events, RunOutcome, State


class TestTimes:
    def test_include_handlers(self, identity):
        """Times include the handlers that have run, those of EPOCH_COMPLETED and COMPLETED afterwards (E-094, E-173)."""
        seen = {}
        identity.add_event_handler(Events.STARTED, lambda e: seen.update(e.state.times))
        identity.add_event_handler(Events.EPOCH_STARTED, lambda: time.sleep(0.02))

        def at_the_end(engine):
            seen["epoch"] = engine.state.times["EPOCH_COMPLETED"]
            time.sleep(0.02)

        def at_the_very_end(engine):
            seen["run"] = engine.state.times["COMPLETED"]
            time.sleep(0.02)

        identity.add_event_handler(Events.EPOCH_COMPLETED, at_the_end)
        identity.add_event_handler(Events.COMPLETED, at_the_very_end)
        times = identity.run([1]).times
        assert (seen["EPOCH_COMPLETED"], seen["COMPLETED"]) == (0.0, 0.0)
        assert 0.02 <= seen["epoch"] <= times["EPOCH_COMPLETED"] - 0.02
        assert 0.04 <= seen["run"] <= times["COMPLETED"] - 0.02

    def test_reset_at_start(self, identity):
        """Each run starts with both times at zero (E-094)."""
        identity.run([1])
        seen = []
        identity.add_event_handler(Events.STARTED, lambda e: seen.append(dict(e.state.times)))
        identity.run([1])
        assert seen == [{"EPOCH_COMPLETED": 0.0, "COMPLETED": 0.0}]


class TestAttributes:
    def test_names_and_order(self):
        """A new state has ignite's attributes in order, followed by outcome and run_start (E-170)."""
        assert [name for name in vars(State()) if name != "event_to_attr"] == [
            "iteration",
            "epoch",
            "epoch_length",
            "max_epochs",
            "max_iters",
            "output",
            "batch",
            "metrics",
            "dataloader",
            "seed",
            "times",
            "outcome",
            "run_start",
        ]
        assert State().times == {"EPOCH_COMPLETED": None, "COMPLETED": None}
        assert State().metrics is not State().metrics

    def test_custom_attributes(self):
        """State accepts custom attributes in the constructor and by assignment (E-171)."""
        state = State(best=0.5, epoch=3)
        state.mine = "value"
        assert (state.best, state.epoch, state.iteration, state.mine) == (0.5, 3, 0, "value")

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("mine", "mine"),
            (None, "None"),
            (0.5, "0.5"),
            ({"accuracy": 0.5, "name": "a"}, "{'accuracy': 0.5, 'name': 'a'}"),
            (torch.tensor(0.25), "tensor(0.2500)"),
            (torch.eye(2), "tensor([[1., 0.], [0., 1.]])"),
            (torch.ones(3, 4), "float32 Tensor of shape (3, 4)"),
            (np.zeros((5, 2), dtype=np.int64), "int64 ndarray of shape (5, 2)"),
            ({"matrix": torch.ones(9, 9)}, "{'matrix': float32 Tensor of shape (9, 9)}"),
            ((torch.ones(9), [1, "a"]), "(float32 Tensor of shape (9,), [1, 'a'])"),
            ((1,), "(1,)"),
            ([0] * 1000, "list of length 1000"),
            (["a" * 200], "list of length 1"),
            (range(3), "range"),
            (RunOutcome.FAILED, "RunOutcome.FAILED"),
        ],
    )
    def test_repr(self, value, shown):
        """The repr shows numbers, text, small tensors and their containers by value, other values in short (E-174)."""
        text = repr(State(value=value, epoch=3))
        assert text.startswith("State:\n")
        assert "\tepoch: 3\n" in text
        assert text.endswith(f"\tvalue: {shown}")
        assert "event_to_attr" not in text

    def test_repr_of_a_cycle(self):
        """A list that contains itself can be shown (E-174)."""
        cyclic = []
        cyclic.append(cyclic)
        assert repr(State(value=cyclic)).endswith("value: [[[[list]]]]")

    def test_repr_shows_the_outcome(self, identity):
        """The repr contains the outcome of the run."""
        assert "outcome: RunOutcome.COMPLETED" in repr(identity.run([1]))
        assert [outcome.value for outcome in RunOutcome] == [
            "completed",
            "terminated",
            "interrupted",
            "failed",
        ]


class TestCounters:
    def test_event_to_attr_is_per_state(self):
        """event_to_attr belongs to one state, not to the class (E-081)."""
        first, second = State(), State()
        first.event_to_attr["custom"] = "calls"
        assert "custom" not in second.event_to_attr
        assert "custom" not in State().event_to_attr

    def test_get_event_attrib_value(self):
        """The counter is the same for plain and filtered events; an event without a counter raises (E-172)."""
        state = State(epoch=2, iteration=9)
        assert state.get_event_attrib_value(Events.EPOCH_COMPLETED) == 2
        assert state.get_event_attrib_value(Events.ITERATION_COMPLETED(every=3)) == 9
        for unknown in (Events.TERMINATE, "custom", Events.STARTED | Events.COMPLETED):
            with pytest.raises(
                RuntimeError, match=r"has no counter in the state; events with a counter: .*STARTED"
            ):
                state.get_event_attrib_value(unknown)

    def test_custom_counter(self, identity):
        """Filters on a custom event use the counter that the user updates (E-082)."""

        class Backprop(EventEnum):
            DONE = "done"

        seen = []

        def count(engine):
            engine.state.backprops += 10
            engine.fire_event(Backprop.DONE)

        identity.register_events(Backprop.DONE, event_to_attr={Backprop.DONE: "backprops"})
        identity.add_event_handler(Events.ITERATION_COMPLETED, count)
        identity.add_event_handler(Backprop.DONE(every=20), lambda e: seen.append(e.state.backprops))
        identity.run([1, 2, 3, 4])
        assert seen == [20, 40]

    @pytest.mark.parametrize(
        ("event", "steps"),
        [
            (Events.STARTED, [(2, 3), (2, 4), (3, 5), (3, 6), (4, 7), (4, 8)]),
            (Events.EPOCH_STARTED(once=2), [(1, 1), (1, 2), (3, 5), (3, 6), (4, 7), (4, 8)]),
            (Events.EPOCH_COMPLETED(once=1), [(1, 1), (1, 2), (3, 5), (3, 6), (4, 7), (4, 8)]),
        ],
    )
    def test_counters_set_by_a_handler(self, event, steps, identity):
        """After a handler sets the counters, each later epoch has its full length (E-175)."""
        seen = []
        identity.add_event_handler(
            Events.ITERATION_STARTED, lambda e: seen.append((e.state.epoch, e.state.iteration))
        )

        @identity.on(event)
        def skip_an_epoch(engine):
            engine.state.iteration += 2
            engine.state.epoch += 1

        identity.run([1, 2], max_epochs=4)
        assert seen == steps
