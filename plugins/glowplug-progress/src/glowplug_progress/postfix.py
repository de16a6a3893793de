"""The text behind a bar: metrics, outputs and attributes of the state, flat and short."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

from glowplug import State
from glowplug.exceptions import GlowplugWarning


def flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the numbers and texts of a nested value, with names joined by ``_``.

    Mappings, lists and tuples are opened, and so are tensors and arrays of at most one dimension. What is left is
    yielded as it is.

    Example:
        >>> list(flatten("f1", {"train": [0.25, 0.75]}))
        [('f1_train_0', 0.25), ('f1_train_1', 0.75)]
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(f"{name}_{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(f"{name}_{index}", item)
    elif hasattr(value, "tolist") and getattr(value, "ndim", 2) <= 1:
        yield from flatten(name, value.tolist())
    else:
        yield name, value


class Postfix:
    """Turns a state into such a text as ``loss=0.5, accuracy=0.91``; called when a bar is redrawn.

    Args:
        metric_names: which metrics, or ``"all"``.
        output_transform: takes ``state.output``, returns a value, or a mapping of names to values.
        state_attributes: further attributes of the state.

    Raises:
        TypeError: arguments of another kind.

    Example:
        >>> from glowplug import State
        >>> show = Postfix(["accuracy"], lambda output: {"loss": output}, ["lr"])
        >>> show(State(metrics={"accuracy": 0.91, "f1": 0.8}, output=0.5, lr=1e-5))
        'accuracy=0.91, loss=0.5, lr=1e-05'
    """

    def __init__(
        self,
        metric_names: Sequence[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        state_attributes: Sequence[str] | None = None,
    ) -> None:
        if metric_names not in (None, "all") and not isinstance(metric_names, (list, tuple)):
            raise TypeError(
                f"ProgressBar: metric_names must be a list of names or 'all', got {metric_names!r}"
            )
        if output_transform is not None and not callable(output_transform):
            raise TypeError(
                f"ProgressBar: output_transform must be a function of the engine's output, got {output_transform!r}"
            )
        if state_attributes is not None and not isinstance(state_attributes, (list, tuple)):
            raise TypeError(
                f"ProgressBar: state_attributes must be a list of names, got {state_attributes!r}"
            )
        self._metric_names = metric_names or ()
        self._output_transform = output_transform
        self._attributes = state_attributes or ()
        self._output: Any = {}
        self._warned: set[str] = set()

    def __call__(self, state: State) -> str:
        """Return the text."""
        names = state.metrics if self._metric_names == "all" else self._metric_names
        values = {name: state.metrics[name] for name in names if name in state.metrics}
        values.update(self._of_output(state.output))
        values.update({name: getattr(state, name) for name in self._attributes if hasattr(state, name)})
        items = (item for name, value in values.items() for item in flatten(name, value))
        return ", ".join(f"{name}={_short(value)}" for name, value in items if self._is_shown(name, value))

    def missing(self, state: State) -> list[str]:
        """Return the names of metrics and attributes that the state does not have."""
        metrics = () if self._metric_names == "all" else self._metric_names
        return [
            *(name for name in metrics if name not in state.metrics),
            *(name for name in self._attributes if not hasattr(state, name)),
        ]

    def _of_output(self, output: Any) -> Mapping[str, Any]:
        # A bar may be drawn between two steps, where there is no output: it shows the last one again.
        if self._output_transform is not None and output is not None:
            shown = self._output_transform(output)
            self._output = shown if isinstance(shown, Mapping) else {"output": shown}
        return self._output  # type: ignore[no-any-return]  # a mapping, as the line above says

    def _is_shown(self, name: str, value: Any) -> bool:
        if isinstance(value, (Number, str)):
            return True
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"ProgressBar cannot show {name!r}, which is of type {type(value).__name__}: give numbers, texts, "
                "tensors of at most one dimension, or lists and mappings of them",
                GlowplugWarning,
                stacklevel=2,
            )
        return False


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, complex)) else str(value)
