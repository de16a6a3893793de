"""The text after a bar: metrics, outputs and attributes of the state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number, Rational
from typing import Any, NamedTuple

from glowplug import State
from glowplug.exceptions import GlowplugWarning
from glowplug.loggers import flatten


class Leaf(NamedTuple):
    """A value without parts, and the text that shows it."""

    name: str
    value: Any
    text: str


class Postfix:
    """Formatter that shows values of a state as text, such as ``accuracy=0.91, loss=0.5``.

    Args:
        metric_names: Names of the metrics to show, or ``"all"`` for all metrics.
        output_transform: Function that takes ``state.output`` and returns a value, or a mapping of names to values.
        state_attributes: Names of further attributes of the state to show.

    Raises:
        TypeError: If an argument has the wrong type.

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
        self.has_metric_names = metric_names is not None
        self._metric_names = metric_names or ()
        self._output_transform = output_transform
        self._attributes = state_attributes or ()
        self._output: Mapping[str, Any] = {}
        self._warned: set[str] = set()

    def __call__(self, state: State) -> str:
        """Return the text for a state."""
        return ", ".join(f"{leaf.name}={leaf.text}" for leaf in self.leaves(state))

    def leaves(self, state: State, *, all_metrics: bool = False) -> Iterator[Leaf]:
        """Yield the values for a state.

        Args:
            state: State of the engine.
            all_metrics: Whether to yield all metrics, whatever ``metric_names`` is.
        """
        names = state.metrics if all_metrics or self._metric_names == "all" else self._metric_names
        values = {name: state.metrics[name] for name in names if name in state.metrics}
        values.update(self._of_output(state.output))
        values.update({name: getattr(state, name) for name in self._attributes if hasattr(state, name)})
        for name, value in values.items():
            yield from self._leaves_of(name, value)

    def missing(self, state: State) -> list[str]:
        """Return the requested names that the state does not have."""
        metrics = () if self._metric_names == "all" else self._metric_names
        return [
            *(name for name in metrics if name not in state.metrics),
            *(name for name in self._attributes if not hasattr(state, name)),
        ]

    def _of_output(self, output: Any) -> Mapping[str, Any]:
        # Before the first step and after a failed step there is no output; the last known output is shown again.
        if self._output_transform is not None and output is not None:
            shown = self._output_transform(output)
            self._output = shown if isinstance(shown, Mapping) else {"output": shown}
        return self._output

    def _leaves_of(self, name: str, value: Any) -> Iterator[Leaf]:
        # flatten() converts every number to a float; a single integer or bool is shown unchanged.
        leaves = [(name, value)] if isinstance(value, Rational) else flatten(name, value, separator="_")
        for leaf, item in leaves:
            text = _short(item)
            if text is not None:
                yield Leaf(leaf, item, text)
            elif leaf not in self._warned:
                self._warned.add(leaf)
                warnings.warn(
                    f"ProgressBar cannot show {leaf!r} of type {type(item).__name__}; use numbers, strings, tensors of at "
                    "most one dimension, or lists and mappings of such values",
                    GlowplugWarning,
                    stacklevel=2,
                )


def _short(value: Any) -> str | None:
    """Return a short text for a leaf, or ``None`` if it is neither a number nor a string."""
    if isinstance(value, (str, Rational)):
        return str(value)
    if not isinstance(value, Number):
        # flatten() yields an object with __float__ for an element of a tensor on a device.
        try:
            value = float(value)
        except (TypeError, ValueError, RuntimeError):
            return None
    # Show all digits of whole numbers: they may be counts that flatten() has converted to floats.
    is_whole = isinstance(value, float) and value.is_integer()
    return f"{value:.15g}" if is_whole else f"{value:.4g}"
