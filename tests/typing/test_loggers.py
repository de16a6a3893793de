"""Loggers as a typed user calls and implements them; mypy --strict checks this file, pytest runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glowplug import Engine, Events, RemovableEventHandle, RunOutcome
from glowplug.loggers import Counts, Histogram, Logger, OutputHandler, Writer
from glowplug.typing import Stateful


class AllKinds(Logger):
    """Implements every method of a writer."""

    def __init__(self) -> None:
        super().__init__(on_error="raise", timeout=10.0)
        self.written: list[str] = []

    def open_backend(self) -> None:
        self.written.append("open")

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        self.written.append(f"scalars {dict(scalars)} {step}")

    def write_params(self, params: Mapping[str, Any]) -> None:
        self.written.append(f"params {dict(params)}")

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        self.written.append(f"text {name} {text} {step} {timestamp}")

    def write_histogram(self, name: str, histogram: Histogram, step: int, timestamp: float) -> None:
        self.written.append(f"histogram {name} {sum(histogram.counts)} {step}")

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        self.written.append(f"image {name} {image.shape} {step}")

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        self.written.append(f"figure {name} {figure} {step}")

    def write_artifact(self, path: str, name: str | None) -> None:
        self.written.append(f"artifact {Path(path).name} {name}")

    def close_backend(self, outcome: RunOutcome | None) -> None:
        self.written.append(f"close {outcome}")


class Batches(Logger):
    """Implements the other required method."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[Mapping[str, float], int]] = []

    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        self.rows += [(scalars, step) for scalars, step, _ in rows]


class Chart:
    """A minimal interactive figure."""

    def to_html(self) -> str:
        """Return the page."""
        return "<html></html>"


def test_every_method_of_a_logger(tmp_path: Path) -> None:
    """All public methods can be called by keyword, and each record reaches its write method."""
    logger = AllKinds()
    model = tmp_path / "model.pt"
    model.write_text("weights")
    writer: Writer = logger
    stateful: Stateful = logger
    logger.log_scalars({"loss": 0.5}, step=1, timestamp=2.0)
    logger.log_params({"lr": 0.1, "data": Path("data")})
    logger.log_text(name="note", text="hello", step=1, timestamp=2.0)
    logger.log_histogram(name="weights", values=[1.0, 2.0], step=1)
    logger.log_image(name="image", image=np.zeros((2, 2, 3)), step=1)
    logger.log_figure(name="figure", figure=Chart(), step=1)
    logger.log_artifact(model, name="models")
    logger.ensure_open(timeout=10.0)
    delivered: bool = logger.flush(10.0)
    counts: Counts = logger.counts
    state = stateful.state_dict()
    logger.load_state_dict(state)
    logger.close(RunOutcome.COMPLETED)
    assert delivered
    assert writer.implements("write_text")
    assert (counts, state["last_number"]) == (Counts(7, 0, 0), 7)
    assert logger.written == [
        "open",
        "scalars {'loss': 0.5} 1",
        "params {'lr': 0.1, 'data': 'data'}",
        "text note hello 1 2.0",
        "histogram weights 2 1",
        "image image (2, 2, 3) 1",
        "figure figure <html></html> 1",
        "artifact model.pt models",
        "close RunOutcome.COMPLETED",
    ]


def test_attach_methods() -> None:
    """All attach methods return a handle, also of a logger that only writes batches."""
    engine = Engine(lambda engine, batch: float(batch))
    optimizer = type("Optimizer", (), {"param_groups": [{"lr": 0.1}]})()
    with Batches() as logger:
        handles: list[RemovableEventHandle] = [
            logger.attach(
                engine, event_name=Events.STARTED, log_handler=OutputHandler("a", state_attributes=["epoch"])
            ),
            logger.attach_output_handler(engine, Events.COMPLETED, tag="b", state_attributes=["epoch"]),
            logger.attach_opt_params_handler(engine, Events.COMPLETED, optimizer),
        ]
        engine.run([1])
        RemovableEventHandle.join(*handles).remove()
    assert logger.rows == [({"a/epoch": 0.0}, 0), ({"b/epoch": 1.0}, 1), ({"lr/group_0": 0.1}, 1)]


def test_wrong_calls() -> None:
    """Each wrong call raises a TypeError and is an error for mypy, as warn_unused_ignores verifies."""
    logger, batches = AllKinds(), Batches()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'step'"):
        logger.log_scalars({"loss": 0.5})  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="step must be an integer, got '1'"):
        logger.log_scalars({"loss": 0.5}, "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"scalars must be a mapping of names to numbers, got 0\.5"):
        logger.log_scalars(0.5, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'loss' must be a number, got 'low' of type str"):
        logger.log_scalars({"loss": "low"}, 1)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="names must be strings, got 1"):
        logger.log_scalars({1: 0.5}, 1)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="params must be a mapping"):
        logger.log_params(["lr"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name must be a string, got 3"):
        logger.log_text(3, "hello", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text must be a string, got 3"):
        logger.log_text("note", 3, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timestamp must be a number, got 'now'"):
        logger.log_text("note", "hello", 1, "now")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'tag'"):
        logger.log_histogram("weights", [1.0], 1, tag="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="values must be a tensor, array or list"):
        logger.log_histogram("weights", 3, 1)
    with pytest.raises(TypeError, match="image must be a tensor, array or PIL image"):
        logger.log_image("image", "image.png", 1)
    with pytest.raises(
        TypeError,
        match="figure must be a Matplotlib figure or an object with a to_html method, got None",
    ):
        logger.log_figure("figure", None, 1)
    with pytest.raises(
        TypeError, match=r"Batches does not implement write_text; it implements write_scalars"
    ):
        batches.log_text("note", "hello", 1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'log_handler'"):
        logger.attach(Engine(lambda engine, batch: batch), Events.STARTED)  # type: ignore[call-arg]
    assert logger.counts == batches.counts == Counts(0, 0, 0)


def test_class_without_scalars() -> None:
    """A logger that writes no scalars cannot be created."""
    with pytest.raises(TypeError, match=r"must implement write_scalars\(scalars, step, timestamp\) or"):
        type("Empty", (Logger,), {})()
