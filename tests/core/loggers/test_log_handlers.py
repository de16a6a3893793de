"""Log handlers: their sources, names, steps and validation."""

from unittest.mock import MagicMock

import pytest

from glowplug import Engine, Events, State
from glowplug.loggers import (
    OptimizerParamsHandler,
    OutputHandler,
    WeightsHistHandler,
    global_step_from_engine,
)
from glowplug.loggers._step import default_step
from glowplug.testing import FakeEngine

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


def fire_three_times(fake, **state):
    """Fire three iterations with the same state."""
    for iteration in (1, 2, 3):
        fake.fire(Events.ITERATION_COMPLETED, iteration=iteration, **state)


class TestOutputHandler:
    def test_source_is_required(self):
        """An OutputHandler without metrics, output or attributes raises a ValueError (L-020)."""
        with pytest.raises(ValueError, match="OutputHandler has nothing to log"):
            OutputHandler("t")

    @pytest.mark.parametrize("names", ["loss", {"loss"}, 3])
    def test_metric_names_must_be_a_list(self, names):
        """metric_names accepts "all" or a sequence; the error shows the value (L-020)."""
        with pytest.raises(TypeError, match="metric_names must be a list of names"):
            OutputHandler("t", metric_names=names)

    @pytest.mark.parametrize("argument", ["output_transform", "global_step_transform"])
    def test_transforms_must_be_callable(self, argument):
        """A transform that is not callable is refused, and the message names it."""
        with pytest.raises(TypeError, match=f"{argument} must be a function, got 3"):
            OutputHandler("t", metric_names="all", **{argument: 3})

    def test_order_of_sources(self, logger):
        """Metrics, output and state attributes are merged in this order; later names overwrite (L-023)."""
        fake = FakeEngine()
        logger.attach_output_handler(
            fake,
            Events.ITERATION_COMPLETED,
            "t",
            ["a", "b"],
            output_transform=lambda output: {"b": output, "c": output},
            state_attributes=["c"],
        )
        fake.fire(Events.ITERATION_COMPLETED, iteration=5, metrics={"a": 1.0, "b": 2.0}, output=3.0, c=4.0)
        assert logger.scalars == [(5, {"t/a": 1.0, "t/b": 3.0, "t/c": 4.0})]

    def test_missing_names_warn_once(self, logger):
        """A missing metric and a missing attribute are skipped with one warning each (L-024)."""
        fake = FakeEngine()
        logger.attach_output_handler(
            fake, Events.ITERATION_COMPLETED, "t", ["gone", "a"], state_attributes=["absent"]
        )
        with pytest.warns(UserWarning, match="to log") as caught:
            fire_three_times(fake, metrics={"a": 1.0})
        assert [str(warning.message) for warning in caught] == [
            "OutputHandler('t'): engine.state.metrics has no metric 'gone' to log; available: a",
            "OutputHandler('t'): engine.state has no attribute 'absent' to log",
        ]
        assert len(logger.scalars) == 3

    def test_non_numeric_values_warn_once(self, logger):
        """A non-numeric value is reported once with its shape, and the others are logged (L-025)."""
        fake = FakeEngine()
        logger.attach_output_handler(
            fake, Events.ITERATION_COMPLETED, "t", output_transform=lambda output: output
        )
        with pytest.warns(UserWarning, match="cannot log; the value is omitted") as caught:
            fire_three_times(fake, output={"m": torch.ones(2, 2), "n": object(), "x": 1})
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 2
        assert (
            "t/m is a Tensor of shape (2, 2), which ListLogger cannot log; the value is omitted"
            in messages[0]
        )
        assert "t/n" in messages[1]
        assert [scalars for _, scalars in logger.scalars] == [{"t/x": 1.0}] * 3

    def test_strings_become_text_records(self, logger):
        """A string in the output becomes a text record if the logger supports text (L-025)."""
        fake = FakeEngine()
        logger.attach_output_handler(
            fake, Events.ITERATION_COMPLETED, "t", output_transform=lambda output: output
        )
        fake.fire(Events.ITERATION_COMPLETED, iteration=2, output={"note": "hello"})
        assert logger.flush(5)
        assert [call[:4] for call in logger.calls if call[0] == "log_text"] == [
            ("log_text", "t/note", "hello", 2)
        ]


class TestOptimizerHandler:
    def test_one_value_per_parameter_group(self, logger):
        """Each parameter group's learning rate is logged under its index, with and without a tag (L-030)."""
        optimizer = torch.optim.SGD(
            [{"params": [torch.zeros(1)], "lr": 0.1}, {"params": [torch.zeros(1)], "lr": torch.tensor(0.25)}],
            lr=1.0,
        )
        fake = FakeEngine()
        logger.attach(fake, Events.ITERATION_STARTED, OptimizerParamsHandler(optimizer))
        logger.attach(
            fake, Events.ITERATION_STARTED, OptimizerParamsHandler(optimizer, "momentum", tag="opt")
        )
        fake.fire(Events.ITERATION_STARTED, iteration=4)
        assert logger.scalars == [
            (4, {"lr/group_0": 0.1, "lr/group_1": 0.25}),
            (4, {"opt/momentum/group_0": 0.0, "opt/momentum/group_1": 0.0}),
        ]

    def test_not_an_optimizer(self):
        """An object without param_groups is refused by the constructor (L-030)."""
        with pytest.raises(TypeError, match="needs an optimizer with param_groups, got 3"):
            OptimizerParamsHandler(3)


def run_with_evaluator(logger, event, evaluator_event=Events.COMPLETED, **options):
    """Run an evaluator in a trainer's handler, and log at the given event of the evaluator."""
    trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
    trainer.add_event_handler(event, lambda: evaluator.run([1, 2]))
    options = {key: make(trainer) for key, make in options.items()}
    logger.attach_output_handler(evaluator, evaluator_event, "v", output_transform=float, **options)
    trainer.run([1, 2, 3], max_epochs=2)
    return [step for step, _ in logger.scalars]


class TestEvaluatorStep:
    def test_evaluator_at_epoch_completed(self, logger):
        """An evaluator run at the trainer's EPOCH_COMPLETED logs at the trainer's epoch (L-021)."""
        assert run_with_evaluator(logger, Events.EPOCH_COMPLETED) == [1, 2]

    def test_evaluator_at_iteration_completed(self, logger):
        """An evaluator run at a trainer's iteration logs at that iteration (L-021)."""
        assert run_with_evaluator(logger, Events.ITERATION_COMPLETED(every=2)) == [2, 4, 6]

    def test_iterations_of_the_evaluator(self, logger):
        """An evaluator's iterations are counted over all its runs in the trainer (L-021)."""
        assert run_with_evaluator(logger, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED) == [1, 2, 3, 4]

    def test_detached_evaluator(self, make_logger):
        """The last handle leaves nothing on the evaluator; if a logger is attached again, the steps continue (L-021)."""
        trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
        first, second = make_logger(), make_logger()

        def attach(logger):
            return logger.attach_output_handler(
                evaluator, Events.ITERATION_COMPLETED, "v", output_transform=float
            )

        handle, other = attach(first), attach(second)
        trainer.run([1], max_epochs=1)
        other.remove()
        trainer.run([1], max_epochs=2)
        handle.remove()
        assert not evaluator.registrations()
        assert "handlers" not in evaluator.state_dict()
        handle = attach(first)
        trainer.run([1], max_epochs=3)
        handle.remove()
        assert not evaluator.registrations()
        assert [step for step, _ in first.scalars] == [1, 2, 3, 4, 5, 6]

    def test_filtered_iterations_of_the_evaluator(self, logger):
        """With a filter, the steps of an evaluator's iterations still increase (L-021)."""
        event = Events.ITERATION_COMPLETED(every=2)
        assert run_with_evaluator(logger, Events.EPOCH_COMPLETED, event) == [2, 4]

    def test_batches_of_the_evaluator(self, logger):
        """Events before an iteration have separate steps in each run of the evaluator (L-021)."""
        trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
        for tag in "ab":
            logger.attach_output_handler(
                evaluator, Events.GET_BATCH_COMPLETED, tag, output_transform=lambda output: 1.0
            )
        trainer.run([1, 2, 3], max_epochs=2)
        assert [(step, *scalars) for step, scalars in logger.scalars] == [
            (step, f"{tag}/output") for step in range(4) for tag in "ab"
        ]

    def test_evaluator_in_a_resumed_run(self, logger):
        """After a resume, the steps of an evaluator's iterations continue (L-021)."""

        def make():
            trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
            trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
            logger.attach_output_handler(evaluator, Events.ITERATION_COMPLETED, "v", output_transform=float)
            return trainer

        first, second = make(), make()
        first.run([1, 2, 3], max_epochs=1)
        second.load_state_dict(first.state_dict())
        second.run([1, 2, 3], max_epochs=2)
        assert [step for step, _ in logger.scalars] == [1, 2, 3, 4]

    def test_evaluator_in_a_step(self, logger):
        """An evaluator that the trainer's step runs logs at the trainer's iteration (L-021)."""
        evaluator = Engine(lambda engine, batch: batch)
        trainer = Engine(lambda engine, batch: evaluator.run([batch]))
        logger.attach_output_handler(evaluator, Events.COMPLETED, "v", output_transform=float)
        trainer.run([1, 2], max_epochs=2)
        assert [step for step, _ in logger.scalars] == [1, 2, 3, 4]


class TestMocks:
    def test_engine_without_end_of_parents(self):
        """The step of an engine that is its own parent, or has endless parents, is found (L-021)."""
        circle = MagicMock(current_event=Events.EPOCH_COMPLETED)
        circle.parent, circle.state = circle, State(epoch=3)
        endless = MagicMock(state=State(epoch=4))
        assert default_step(circle, Events.EPOCH_COMPLETED) == 3
        assert default_step(endless, Events.EPOCH_COMPLETED) == 4
        assert isinstance(default_step(MagicMock(), Events.ITERATION_COMPLETED), int)

    def test_mock_as_log_handler(self, logger):
        """Any callable can be a log handler, also a mock (L-001)."""
        identity = Engine(lambda engine, batch: batch)
        handler = MagicMock()
        logger.attach(identity, Events.EPOCH_COMPLETED, handler)
        identity.run([1])
        handler.assert_called_once_with(identity, logger, Events.EPOCH_COMPLETED)
        assert "MagicMock" in identity.describe()


class TestAsyncFunctions:
    def test_async_log_handler(self, logger):
        """An async function or a generator function is refused as a log handler (L-001)."""
        identity = Engine(lambda engine, batch: batch)

        async def handler(engine, logger, event_name): ...

        with pytest.raises(TypeError, match=r"ListLogger.attach: log_handler .*handler is an async function"):
            logger.attach(identity, Events.EPOCH_COMPLETED, handler)

    def test_result(self, logger):
        """A log handler that returns a generator is refused at its first call (L-001)."""
        identity = Engine(lambda engine, batch: batch)
        logger.attach(identity, Events.EPOCH_COMPLETED, lambda *args: (arg for arg in args))
        with pytest.raises(TypeError, match=r"returned a generator"):
            identity.run([1])

    def test_exception_event(self, logger):
        """A log handler of EXCEPTION_RAISED gets the engine (E-039)."""
        identity = Engine(lambda engine, batch: batch)
        got = []
        logger.attach(identity, Events.EXCEPTION_RAISED, lambda engine, *_: got.append(engine))
        identity.add_event_handler(Events.STARTED, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            identity.run([1])
        assert got == [identity]


class TestStep:
    @pytest.mark.parametrize("step", [7, np.int64(7), True])
    def test_integers_are_steps(self, logger, step):
        """Any integral type is accepted as step and recorded as int (L-022)."""
        fake = FakeEngine()
        logger.attach_output_handler(
            fake, Events.ITERATION_COMPLETED, "t", ["a"], global_step_transform=lambda engine, event: step
        )
        fake.fire(Events.ITERATION_COMPLETED, metrics={"a": 1.0})
        assert [(type(at), at) for at, _ in logger.scalars] == [(int, int(step))]

    @pytest.mark.parametrize("step", [7.0, "7", None])
    def test_other_types_are_refused(self, logger, step):
        """A step that is not an integer raises an error that names transform and value (L-022)."""
        fake = FakeEngine()
        logger.attach_output_handler(
            fake, Events.ITERATION_COMPLETED, "t", ["a"], global_step_transform=lambda engine, event: step
        )
        with pytest.raises(TypeError, match="global_step_transform: the step must be an integer, got"):
            fake.fire(Events.ITERATION_COMPLETED, metrics={"a": 1.0})

    def test_global_step_from_engine(self, logger):
        """global_step_from_engine reads the other engine's counter of the event (H-004)."""
        by_event = {"global_step_transform": global_step_from_engine}
        assert run_with_evaluator(logger, Events.EPOCH_COMPLETED, **by_event) == [1, 2]
        logger.calls.clear()
        named = {"global_step_transform": lambda t: global_step_from_engine(t, Events.ITERATION_COMPLETED)}
        assert run_with_evaluator(logger, Events.EPOCH_COMPLETED, **named) == [3, 6]

    def test_event_without_a_counter(self):
        """global_step_from_engine reads the fallback attribute for an event without a counter (H-004)."""
        trainer = FakeEngine()
        trainer.state.epoch, trainer.state.iteration = 3, 40
        assert global_step_from_engine(trainer)(FakeEngine(), Events.TERMINATE) == 3
        assert (
            global_step_from_engine(trainer, fallback_attr="iteration")(FakeEngine(), Events.TERMINATE) == 40
        )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OutputHandler(3, "all"), TypeError, "tag must be a string, got 3"),
        (
            lambda: OutputHandler("t", [1]),
            TypeError,
            r"metric_names must be a list of names or \"all\", got \[1\]",
        ),
        (
            lambda: OptimizerParamsHandler(torch.optim.SGD([torch.zeros(1)], lr=0.1), "momentun"),
            ValueError,
            "group 0 has no 'momentun'; did you mean 'momentum'",
        ),
        (
            lambda: WeightsHistHandler(torch.nn.Linear(1, 1), whitelist="0"),
            TypeError,
            r"whitelist must be a list of prefixes or a function; write \['0'\]",
        ),
    ],
    ids=["tag", "metric_names", "param_name", "whitelist"],
)
def test_options_are_checked_by_the_constructor(make, error, message):
    """A wrong option raises immediately, not at the first event."""
    with pytest.raises(error, match=message):
        make()
