"""Logger.attach: argument order, what fails early, which events, in which phase, and what the handle takes back."""

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
    """Log the iteration: the smallest log handler."""
    logger.log_scalars({"iteration": engine.state.iteration}, engine.state.iteration)


def registered(engine):
    """Count the handlers at all events."""
    return sum(len(engine.handlers_at(event)) for event in Events)


def test_L_001_handler_gets_engine_logger_event(logger):
    """A log handler is called with engine, logger and event, and its record arrives."""
    engine, seen = Engine(lambda engine, batch: batch), []
    logger.attach(engine, Events.ITERATION_COMPLETED, lambda *args: seen.append(args))
    engine.run([1])
    assert seen == [(engine, logger, Events.ITERATION_COMPLETED)]


@pytest.mark.parametrize(
    "event", [Events.STARTED, Events.STARTED(every=2), Events.STARTED | Events.COMPLETED, "custom"]
)
def test_L_001_swapped_arguments_are_named(logger, event):
    """Ignite's order raises a TypeError that says to swap, whatever kind of event is given."""
    with pytest.raises(
        TypeError, match=r"is an event, not a log handler; write logger\.attach\(engine, .*, log_handler\)"
    ):
        logger.attach(FakeEngine(), by_step, event)


def test_attach_refuses_what_cannot_be_called(logger):
    """Something that is not callable fails at attach, with a hint and without a trace left on the engine."""
    fake = FakeEngine()
    with pytest.raises(
        TypeError, match=r"log_handler must be callable as f\(engine, logger, event_name\), got 3"
    ):
        logger.attach(fake, Events.STARTED, 3)
    assert registered(fake) == 0


def test_attach_refuses_a_handler_with_other_arguments(logger):
    """A plain engine handler, given as a log handler, fails at attach and not in the middle of a run."""
    with pytest.raises(
        TypeError, match=r"cannot be called as f\(engine, logger, event_name, \.\.\.\).*too many"
    ):
        logger.attach(FakeEngine(), Events.STARTED, lambda engine: None)


def test_attach_refuses_a_record_that_the_logger_cannot_take():
    """A histogram handler on a logger without log_histogram fails at attach, naming what it takes."""
    torch = pytest.importorskip("torch")
    with pytest.raises(
        TypeError,
        match=r"ScalarsOnly does not implement write_histogram, which WeightsHistHandler needs",
    ):
        ScalarsOnly().attach(FakeEngine(), Events.STARTED, WeightsHistHandler(torch.nn.Linear(1, 1)))


def test_L_003_events_list_keeps_extra_arguments(logger):
    """Each event of a list registers the handler with its own event and all further arguments."""
    seen = []
    engine = Engine(lambda engine, batch: batch)

    def handler(engine, logger, event_name, *args, **kwargs):
        seen.append((event_name, args, kwargs))

    logger.attach(engine, Events.STARTED | Events.COMPLETED, handler, 1, key=2)
    engine.run([1])
    assert seen == [(Events.STARTED, (1,), {"key": 2}), (Events.COMPLETED, (1,), {"key": 2})]


def test_L_004_filtered_event_is_handed_over(logger):
    """The handler gets the filtered event object itself, and runs only when the filter says so."""
    event, seen = Events.ITERATION_COMPLETED(every=2), []
    engine = Engine(lambda engine, batch: batch)
    logger.attach(engine, event, lambda engine, logger, name: seen.append((name, engine.state.iteration)))
    engine.run([1, 2, 3, 4])
    assert [iteration for _, iteration in seen] == [2, 4]
    assert all(name is event for name, _ in seen)


def test_L_002_events_without_a_counter_can_be_logged(logger):
    """A custom event, and TERMINATE, have no counter; their records have the iteration as their step."""
    engine = Engine(lambda engine, batch: engine.fire_event(Custom.HALFTIME))
    engine.register_events(Custom.HALFTIME)
    for event in (Custom.HALFTIME, Events.TERMINATE):
        logger.attach(engine, event, OutputHandler("t", output_transform=lambda _, e=event: {e.name: 1.0}))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    engine.run([1, 2, 3])
    assert logger.scalars == [(1, {"t/HALFTIME": 1.0}), (2, {"t/HALFTIME": 1.0}), (2, {"t/TERMINATE": 1.0})]


def test_unknown_event_leaves_nothing_attached(logger):
    """An event list with one unknown event raises the engine's error, and none of its events is attached."""
    fake = FakeEngine()
    with pytest.raises(ValueError, match="HALFTIME"):
        logger.attach(fake, EventsList(Events.STARTED, Custom.HALFTIME), by_step)
    assert registered(fake) == 0


def test_handle_removes_everything(logger):
    """The handle takes back all registrations, those at the end of a run included."""
    fake = FakeEngine()
    handle = logger.attach(fake, Events.STARTED | Events.ITERATION_COMPLETED, by_step)
    assert registered(fake) > 2
    handle.remove()
    assert registered(fake) == 0


def test_L_005_shortcuts_build_the_handlers(logger):
    """attach_output_handler and attach_opt_params_handler do what attach does with the built handler."""
    torch = pytest.importorskip("torch")
    fake = FakeEngine()
    logger.attach_output_handler(fake, Events.EPOCH_COMPLETED, tag="valid", metric_names=["acc"])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.25)
    logger.attach_opt_params_handler(fake, Events.EPOCH_COMPLETED, optimizer, tag="opt")
    fake.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={"acc": 0.5})
    assert logger.scalars == [(3, {"valid/acc": 0.5}), (3, {"opt/lr/group_0": 0.25})]


def test_logging_sees_fresh_metrics_whatever_the_order_of_attaching(logger):
    """A logger attached before the handler that computes a metric logs the value of this epoch, not of the last."""
    engine = Engine(lambda engine, batch: batch)
    logger.attach_output_handler(engine, Events.EPOCH_COMPLETED, tag="t", metric_names="all")

    @engine.on(Events.EPOCH_COMPLETED)
    def compute(engine):
        engine.state.metrics["m"] = float(engine.state.epoch)

    engine.run([1], max_epochs=2)
    assert logger.scalars == [(1, {"t/m": 1.0}), (2, {"t/m": 2.0})]


def test_bare_logger_without_init_works(tmp_path):
    """A logger that only defines log_scalars, and no __init__, logs a whole run."""
    rows = []

    class Bare(Logger):
        def write_scalars(self, scalars, step, timestamp):
            rows.append((scalars, step))

    engine = Engine(lambda engine, batch: batch)
    with Bare() as bare:
        bare.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="t", output_transform=float)
        engine.run([1, 2])
    assert rows == [({"t/output": 1.0}, 1), ({"t/output": 2.0}, 2)]


def test_minimal_file_logger_writes_a_whole_run(json_lines):
    """A logger with an __init__, log_scalars and close leaves a complete file behind."""
    json_logger, read = json_lines
    engine = Engine(lambda engine, batch: batch)
    with json_logger:
        json_logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="t", output_transform=float)
        engine.run([1, 2])
    assert read() == [{"step": 1, "t/output": 1.0}, {"step": 2, "t/output": 2.0}, {"closed": "COMPLETED"}]
