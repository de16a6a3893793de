"""The public API in a typed script; mypy --strict checks it, pytest runs it."""

from collections.abc import Mapping

from glowplug import Engine, EventEnum, Events, EventsList, Phase, RemovableEventHandle, RunOutcome, State
from glowplug.loggers import Logger, OutputHandler
from glowplug.testing import FakeEngine
from glowplug.typing import Attachable, EngineProtocol, Stateful
from glowplug_early_stopping import EarlyStopping
from glowplug_metrics import Accuracy
from glowplug_model_checkpoint import ModelCheckpoint
from glowplug_progress import ProgressBar
from glowplug_terminate_on_nan import TerminateOnNan


class Counter:
    """A third-party handler, typed against the protocol."""

    phase = Phase.LOGGING

    def __init__(self) -> None:
        self.epochs = 0

    def attach(self, engine: EngineProtocol) -> RemovableEventHandle:
        return RemovableEventHandle.join(
            engine.add_event_handler(Events.EPOCH_COMPLETED, self), engine.register_state("Counter", self)
        )

    def __call__(self, engine: EngineProtocol) -> None:
        self.epochs += 1

    def state_dict(self) -> Mapping[str, int]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: Mapping[str, int], /) -> None:
        self.epochs = state_dict["epochs"]


class ListLogger(Logger):
    """A minimal logger."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        self.rows.append((step, dict(scalars)))


class Custom(EventEnum):
    """Custom events."""

    HALFTIME = "halftime"


def step(engine: Engine, batch: int) -> float:
    """Return the batch."""
    return float(batch)


def test_engine_handler_and_fake_are_typed() -> None:
    """A typed handler works with both engines and with event lists."""
    counter: Attachable = Counter()
    stateful: Stateful = Counter()
    fake: EngineProtocol = FakeEngine()
    engine = Engine(step)
    with engine.attach(counter), fake.register_state("other", stateful):
        state: State = engine.run([1, 2], max_epochs=2)
    outcome: RunOutcome | None = state.outcome
    several: EventsList = Events.STARTED | Events.COMPLETED(every=2) | Custom.HALFTIME
    assert outcome is RunOutcome.COMPLETED
    assert len(several) == 3


def test_plugins_are_typed() -> None:
    """First-party handlers are classes with typed attach methods."""
    engine, evaluator = Engine(step), Engine(step)
    accuracy = Accuracy()
    handles: list[RemovableEventHandle] = [
        TerminateOnNan().attach(engine),
        ProgressBar(disable=True).attach(engine),
        ProgressBar(style="rich", best="loss", mode="min", disable=True).attach(engine, name="train"),
        EarlyStopping(patience=2, score_function="accuracy", trainer=engine).attach(evaluator),
        accuracy.attach(evaluator, "accuracy"),
    ]
    RemovableEventHandle.join(*handles).remove()
    assert callable(ModelCheckpoint.load_objects)


def test_loggers_are_typed() -> None:
    """A custom logger receives typed records from the log handlers."""
    engine = Engine(step)
    with ListLogger() as logger:
        logger.attach(
            engine,
            Events.ITERATION_COMPLETED,
            OutputHandler("t", output_transform=lambda output: {"x": output}),
        )
        engine.run([1, 2])
        logger.flush()
        assert logger.rows == [(1, {"t/x": 1.0}), (2, {"t/x": 2.0})]
