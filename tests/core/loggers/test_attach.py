"""Logger.attach: argument order, validation, events, phase and handle."""

import pytest

from glowplug import Engine, EventEnum, Events, EventsList
from glowplug.loggers import Logger, OutputHandler, WeightsHistHandler
from glowplug.testing import FakeEngine


class ScalarsOnly(Logger):
    def write_scalars(self, scalars, step, timestamp):
        raise NotImplementedError


class Custom(EventEnum):
    HALFTIME = "halftime"


def by_step(engine, logger, event_name):
    """Log the iteration."""
    logger.log_scalars({"iteration": engine.state.iteration}, engine.state.iteration)


def registered(engine):
    """Return the number of handlers at all events."""
    return sum(len(engine.handlers_at(event)) for event in Events)


class TestArguments:
    def test_handler_receives_engine_logger_event(self, logger):
        """A log handler is called with engine, logger and event, and its record is delivered (L-001)."""
        engine, seen = Engine(lambda engine, batch: batch), []
        logger.attach(engine, Events.ITERATION_COMPLETED, lambda *args: seen.append(args))
        engine.run([1])
        assert seen == [(engine, logger, Events.ITERATION_COMPLETED)]

    @pytest.mark.parametrize(
        "event", [Events.STARTED, Events.STARTED(every=2), Events.STARTED | Events.COMPLETED, "custom"]
    )
    def test_swapped_arguments(self, logger, event):
        """Arguments in ignite's order raise a TypeError that shows the right order, for every kind of event (L-001)."""
        with pytest.raises(
            TypeError,
            match=r"is an event, not a log handler; write logger\.attach\(engine, .*, log_handler\)",
        ):
            logger.attach(FakeEngine(), by_step, event)

    def test_not_callable(self, logger):
        """A handler that is not callable is refused with a hint, and nothing is attached."""
        fake = FakeEngine()
        with pytest.raises(
            TypeError, match=r"log_handler must be callable as f\(engine, logger, event_name\), got 3"
        ):
            logger.attach(fake, Events.STARTED, 3)
        assert registered(fake) == 0

    def test_engine_handler_as_log_handler(self, logger):
        """An engine handler given as log handler is refused by attach()."""
        with pytest.raises(
            TypeError, match=r"cannot be called as f\(engine, logger, event_name, \.\.\.\).*too many"
        ):
            logger.attach(FakeEngine(), Events.STARTED, lambda engine: None)

    def test_unsupported_record(self):
        """A histogram handler on a logger without histograms is refused, and the message lists the supported records."""
        torch = pytest.importorskip("torch")
        with pytest.raises(
            TypeError,
            match=r"ScalarsOnly does not implement write_histogram, which WeightsHistHandler needs",
        ):
            ScalarsOnly().attach(FakeEngine(), Events.STARTED, WeightsHistHandler(torch.nn.Linear(1, 1)))


class TestEvents:
    def test_events_list_keeps_extra_arguments(self, logger):
        """Each event of an EventsList registers the handler with that event and the extra arguments (L-003)."""
        seen = []
        engine = Engine(lambda engine, batch: batch)

        def handler(engine, logger, event_name, *args, **kwargs):
            seen.append((event_name, args, kwargs))

        logger.attach(engine, Events.STARTED | Events.COMPLETED, handler, 1, key=2)
        engine.run([1])
        assert seen == [(Events.STARTED, (1,), {"key": 2}), (Events.COMPLETED, (1,), {"key": 2})]

    def test_filtered_event_is_passed_on(self, logger):
        """The handler receives the filtered event and runs only when its filter matches (L-004)."""
        event, seen = Events.ITERATION_COMPLETED(every=2), []
        engine = Engine(lambda engine, batch: batch)
        logger.attach(engine, event, lambda engine, logger, name: seen.append((name, engine.state.iteration)))
        engine.run([1, 2, 3, 4])
        assert [iteration for _, iteration in seen] == [2, 4]
        assert all(name is event for name, _ in seen)

    def test_events_without_a_counter(self, logger):
        """Records at events without a counter have the iteration as step (L-002)."""
        engine = Engine(lambda engine, batch: engine.fire_event(Custom.HALFTIME))
        engine.register_events(Custom.HALFTIME)
        for event in (Custom.HALFTIME, Events.TERMINATE):
            logger.attach(
                engine, event, OutputHandler("t", output_transform=lambda _, e=event: {e.name: 1.0})
            )
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
        engine.run([1, 2, 3])
        assert logger.scalars == [
            (1, {"t/HALFTIME": 1.0}),
            (2, {"t/HALFTIME": 1.0}),
            (2, {"t/TERMINATE": 1.0}),
        ]

    def test_unknown_event_leaves_nothing_attached(self, logger):
        """An EventsList with an unknown event raises the engine's error, and nothing is attached."""
        fake = FakeEngine()
        with pytest.raises(ValueError, match="HALFTIME"):
            logger.attach(fake, EventsList(Events.STARTED, Custom.HALFTIME), by_step)
        assert registered(fake) == 0


class TestHandle:
    def test_removes_all_registrations(self, logger):
        """The handle removes all registrations, including those for the end of the run."""
        fake = FakeEngine()
        handle = logger.attach(fake, Events.STARTED | Events.ITERATION_COMPLETED, by_step)
        assert registered(fake) > 2
        handle.remove()
        assert registered(fake) == 0


def test_shortcuts_create_the_handlers(logger):
    """attach_output_handler and attach_opt_params_handler equal attach() with the handler (L-005)."""
    torch = pytest.importorskip("torch")
    fake = FakeEngine()
    logger.attach_output_handler(fake, Events.EPOCH_COMPLETED, tag="valid", metric_names=["acc"])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.25)
    logger.attach_opt_params_handler(fake, Events.EPOCH_COMPLETED, optimizer, tag="opt")
    fake.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={"acc": 0.5})
    assert logger.scalars == [(3, {"valid/acc": 0.5}), (3, {"opt/lr/group_0": 0.25})]


def test_metrics_are_computed_before_logging(logger):
    """A logger that is attached before a metric handler logs the metric of the current epoch."""
    engine = Engine(lambda engine, batch: batch)
    logger.attach_output_handler(engine, Events.EPOCH_COMPLETED, tag="t", metric_names="all")

    @engine.on(Events.EPOCH_COMPLETED)
    def compute(engine):
        engine.state.metrics["m"] = float(engine.state.epoch)

    engine.run([1], max_epochs=2)
    assert logger.scalars == [(1, {"t/m": 1.0}), (2, {"t/m": 2.0})]


class TestMinimalLogger:
    def test_without_init(self, tmp_path):
        """A logger without __init__ logs a whole run."""
        rows = []

        class Bare(Logger):
            def write_scalars(self, scalars, step, timestamp):
                rows.append((scalars, step))

        engine = Engine(lambda engine, batch: batch)
        with Bare() as bare:
            bare.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="t", output_transform=float)
            engine.run([1, 2])
        assert rows == [({"t/output": 1.0}, 1), ({"t/output": 2.0}, 2)]

    def test_file_logger(self, json_lines):
        """A minimal file logger writes and closes a complete file."""
        json_logger, read = json_lines
        engine = Engine(lambda engine, batch: batch)
        with json_logger:
            json_logger.attach_output_handler(
                engine, Events.ITERATION_COMPLETED, tag="t", output_transform=float
            )
            engine.run([1, 2])
        assert read() == [{"step": 1, "t/output": 1.0}, {"step": 2, "t/output": 2.0}, {"closed": "COMPLETED"}]
