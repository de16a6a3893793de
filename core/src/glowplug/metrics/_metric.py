"""Base class of metrics."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import torch

from glowplug.engine import check_function, check_result, describe_handler
from glowplug.events import Events
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.handles import RemovableEventHandle
from glowplug.metrics._arithmetic import MetricArithmetic
from glowplug.metrics._attachment import Attachments
from glowplug.metrics._padding import LACKS_SAMPLES
from glowplug.metrics._samples import is_list_batch, samples
from glowplug.metrics._state import RankState, StatefulMetric, has_state
from glowplug.metrics._usage import EpochWise, MetricUsage, as_usage
from glowplug.phase import Phase
from glowplug.state import RunStart
from glowplug.typing import EngineProtocol

ResultMode = Literal["flatten", "named", "both"]


def identity(output: Any) -> Any:
    """Return the output unchanged; this function is the default ``output_transform`` of metrics.

    Example:
        >>> identity(3)
        3
    """
    return output


class Metric(MetricArithmetic["MetricsLambda"], StatefulMetric, ABC):
    """Base class of metrics; subclasses implement :meth:`reset`, :meth:`update` and :meth:`compute`.

    The usage of an attached metric determines the events at which the engine resets, updates and computes the metric. Each
    update uses ``engine.state.output``. The computed value appears in ``engine.state.metrics`` under the name given to
    :meth:`attach`. At each event, metrics run before user handlers, loggers and checkpoints, so all of these handlers see
    the new value.

    A scalar tensor is published as a Python number. Other tensors are moved to the CPU. ``metrics_result_mode`` determines
    how a mapping is published. If a metric has seen no data, for example in an empty epoch, its name is missing from
    ``state.metrics``. A warning reports the missing name once.

    Metrics can be combined. For example, ``2 * precision * recall / (precision + recall)``, ``confusion["tp"]``,
    ``f1.mean()`` and ``metric.map(function)`` are metrics too.

    Args:
        output_transform: Function that converts ``engine.state.output`` to the argument of :meth:`update`. If the function
            returns a mapping, :meth:`update` receives a tuple of the values of ``required_output_keys``.
        device: Device of the accumulators.
        skip_unrolling: ``True`` passes lists of samples to :meth:`update` unchanged. ``False`` (the default) splits an output
            that consists of two lists of tensors or numbers, and calls :meth:`update` for each pair of samples. Use two
            lists if the samples of a batch differ in size. A tuple of batches, such as one tensor for each head of a model, is
            never split.
        metrics_result_mode: How a mapping is published. ``"flatten"`` publishes each value under its key, and ``"named"``
            publishes the mapping under the metric's name. ``"both"`` (the default) does both.

    Raises:
        TypeError: If ``output_transform`` is not callable.
        ValueError: If ``metrics_result_mode`` is unknown.

    Example:
        >>> from glowplug import Engine
        >>> class Largest(Metric):
        ...     def reset(self):
        ...         self.value = float("-inf")
        ...
        ...     def update(self, output):
        ...         self.value = max(self.value, output)
        ...
        ...     def compute(self):
        ...         return self.value
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = Largest().attach(engine, "largest")
        >>> engine.run([1, 7, 3]).metrics
        {'largest': 7}
    """

    phase = Phase.METRICS

    required_output_keys: tuple[str, ...] | None = ("y_pred", "y")
    """If the output is a mapping, :meth:`update` receives a tuple of the values of these keys. ``None`` rejects mappings."""

    default_usage: ClassVar[MetricUsage] = EpochWise()
    """The default usage of ``attach()``."""

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
        metrics_result_mode: ResultMode = "both",
    ) -> None:
        if not callable(output_transform):
            raise TypeError(f"output_transform must be callable, got {output_transform!r}")
        if metrics_result_mode not in {"flatten", "named", "both"}:
            raise ValueError(
                f"metrics_result_mode must be 'flatten', 'named' or 'both', got {metrics_result_mode!r}"
            )
        for method in (self.reset, self.update, self.compute):
            check_function(method, describe_handler(method))
        self._output_transform = output_transform
        self._device = torch.device(device)
        self._skip_unrolling = skip_unrolling
        self._metrics_result_mode = metrics_result_mode
        self._attachments = Attachments(type(self).__name__)
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Discard all data."""

    @abstractmethod
    def update(self, output: Any) -> None:
        """Accumulate the output of one iteration.

        Args:
            output: The result of :meth:`transformed`, or one sample from the result; see ``skip_unrolling``.
        """

    @abstractmethod
    def compute(self) -> Any:
        """Return the value for the data since the last reset.

        With several processes, this method is a collective: all ranks must call it the same number of times.

        Raises:
            NotComputableError: If the metric has seen no data.
        """

    def map(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> MetricsLambda:
        return MetricsLambda(function, self, *args, **kwargs)

    # Engines

    def attach(
        self, engine: EngineProtocol, name: str, usage: str | MetricUsage | None = None
    ) -> RemovableEventHandle:
        """Attach the metric to an engine and publish its value in ``engine.state.metrics[name]``.

        Args:
            engine: The engine. A metric can be attached under several names, and to several engines that run one after the
                other.
            name: The key in ``engine.state.metrics``.
            usage: The usage, such as ``BatchWise()``, or the name of a usage, such as ``"batch_wise"``. Defaults to
                :attr:`default_usage`.

        Returns:
            A handle whose ``remove()`` undoes this call.

        Raises:
            ValueError: If ``usage`` is an unknown name, if the engine already has a metric with this name, or if the metric is
                already used with another usage.
            TypeError: If ``usage`` is neither a :class:`MetricUsage` nor a string.
        """
        usage = self.usage_or_default(usage)
        with ExitStack() as added:
            added.enter_context(self._attachments.claim(engine, name, usage))
            added.enter_context(self.feed(engine, usage))
            added.enter_context(engine.add_event_handler(usage.COMPLETED, self.completed, name))
            if has_state(self):
                added.enter_context(engine.register_state(f"metric {name}", RankState(self, engine.state)))
            handle = RemovableEventHandle(added.pop_all().close)
        self._attachments.add(engine, name, usage, handle)
        return handle

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let an engine reset and update this metric without publishing a value.

        A metric that is composed of other metrics calls this method on each component. Even if this method is called several
        times for one engine, the metric is reset and updated only once per event.

        Args:
            engine: The engine.
            usage: See :meth:`attach`.

        Returns:
            A handle for this call. The engine resets and updates the metric until all handles for this engine are removed.

        Raises:
            ValueError: If the metric is already used with another usage.
        """
        return self._attachments.feed(engine, self.usage_or_default(usage), self._add_resets_and_updates)

    def _add_resets_and_updates(self, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        resets = engine.add_event_handler(usage.STARTED, self.started)
        return RemovableEventHandle.join(resets, self.add_updates(engine, usage))

    def add_updates(self, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Add the handler that updates the metric; override this method to update several metrics together.

        Args:
            engine: The engine.
            usage: The usage; the handler runs at the event ``usage.ITERATION_COMPLETED``.

        Returns:
            A handle that removes the added handler.
        """
        return engine.add_event_handler(usage.ITERATION_COMPLETED, self.iteration_completed)

    def detach(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> None:
        """Detach this metric from an engine, under all its names.

        Values that are already in ``engine.state.metrics`` stay there.

        Args:
            engine: The engine.
            usage: The usage given to :meth:`attach`.
        """
        for handle in self._attachments.handles(engine, self.usage_or_default(usage)):
            handle.remove()

    def is_attached(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> bool:
        """Return whether the metric is attached to this engine with this usage."""
        return bool(self._attachments.handles(engine, self.usage_or_default(usage)))

    def started(self, engine: EngineProtocol) -> None:
        """Reset the metric; the engine calls this method at the usage's ``STARTED`` event.

        If the engine continues from a loaded state or continues an unfinished epoch, the metric keeps its data instead.
        """
        epoch, self._kept_for_epoch = self._kept_for_epoch, None
        holds_data_of_engine = self._attachments.begin(engine)
        continues_loaded_state = epoch is not None and _continues(engine, epoch)
        if not continues_loaded_state and not (holds_data_of_engine and _continues_unfinished_epoch(engine)):
            self._saved_after = None
            self.reset()

    def iteration_completed(self, engine: EngineProtocol) -> None:
        """Update the metric with the engine's output; runs at the usage's ``ITERATION_COMPLETED`` event.

        Raises:
            TypeError: If the output is a mapping and this metric does not accept mappings.
            ValueError: If the output is a mapping that lacks a required key. The same error is raised if the output consists of
                lists, but not of exactly two lists of equal length.
        """
        if self.takes_output(engine):
            # torch.no_grad() takes twice as long, and this code runs in every iteration.
            was_enabled = torch.is_grad_enabled()
            torch.set_grad_enabled(False)
            try:
                for part in self.parts(self.transformed(engine.state.output)):
                    self.update(part)
            finally:
                torch.set_grad_enabled(was_enabled)

    def takes_output(self, engine: EngineProtocol) -> bool:
        """Return whether the engine has an output with which to update this metric.

        After a state is loaded, there is no output until the next iteration completes. If :func:`without_padding` has removed all
        samples of a batch, the output has no rows.
        """
        if self._saved_after is not None and self._lacks_output(engine):
            return False
        # A mock of an engine returns other values.
        return engine.stash.get(LACKS_SAMPLES) is not True

    def parts(self, output: Any) -> Iterable[Any]:
        """Return the arguments for :meth:`update`: the whole output, or one argument per sample.

        Args:
            output: The result of :meth:`transformed`.

        Raises:
            ValueError: If the output consists of lists, but not of exactly two lists of equal length.
        """
        return (output,) if self._skip_unrolling or not is_list_batch(output) else samples(output)

    def completed(self, engine: EngineProtocol, name: str) -> None:
        """Compute and publish the value; the engine calls this method at the usage's ``COMPLETED`` event.

        Raises:
            ValueError: If the value is a mapping that has the metric's name as a key. With
                ``metrics_result_mode="flatten"``, such a mapping is allowed.
        """
        if engine.current_event is Events.EPOCH_COMPLETED or engine.current_event is Events.COMPLETED:
            self._attachments.warn_about_padding(engine)
        metrics = engine.state.metrics
        for key in self._attachments.published.pop(name, (name,)):
            metrics.pop(key, None)
        try:
            with torch.no_grad():
                value = check_result(self.compute(), lambda: describe_handler(self.compute))
                values = self._named_values(name, value)
        except NotComputableError as reason:
            self._attachments.warn_once(name, reason)
            return
        self._attachments.published[name] = tuple(values)
        metrics.update(values)

    def transformed(self, output: Any) -> Any:
        """Convert an engine's output to the argument of :meth:`update`.

        This method applies ``output_transform``. If the result is a mapping, the method then applies :meth:`select`. A metric
        that updates other metrics calls this method to prepare their arguments.
        """
        output = self._output_transform(output)
        return self.select(output) if isinstance(output, Mapping) else output

    def select(self, output: Mapping[Any, Any]) -> Any:
        """Return the values of ``required_output_keys`` as a tuple.

        Raises:
            TypeError: If this metric does not accept mappings.
            ValueError: If the mapping lacks a required key.
        """
        keys = self.required_output_keys
        if keys is None:
            raise TypeError(
                f"{type(self).__name__} does not accept mappings, got a mapping with the keys {list(output)}; select a "
                "value with output_transform"
            )
        missing = [key for key in keys if key not in output]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs the output keys {', '.join(keys)}, but the output has only {list(output)}; "
                f"add {', '.join(map(repr, missing))} to the output, or return a tuple from output_transform"
            )
        return tuple(output[key] for key in keys)

    def publishable(self, value: Any) -> Any:
        """Convert a scalar tensor to a number, and move other tensors to the CPU."""
        if isinstance(value, torch.Tensor):
            return value.item() if value.ndim == 0 else value.cpu()
        return value

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not attached to any engine.
        return {name: value for name, value in vars(self).items() if name != "_attachments"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attachments = Attachments(type(self).__name__)

    # Hidden from type checkers, which would otherwise accept any attribute.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}; to use an attribute of the metric's value, write "
                f"metric.map(lambda value: value.{name})",
                name=name,
                obj=self,
            )

    # For subclasses

    @property
    def _double_dtype(self) -> torch.dtype:
        """The float type of accumulators, which is ``torch.float64`` if the device supports it, otherwise ``torch.float32``."""
        return torch.float32 if self._device.type == "mps" else torch.float64

    def usage_or_default(self, usage: str | MetricUsage | None) -> MetricUsage:
        """Return the usage object for the argument ``usage``; ``None`` selects :attr:`default_usage`."""
        return self.default_usage if usage is None else as_usage(usage)

    def attached_engines(self) -> list[EngineProtocol]:
        """Return the engines that this metric is attached to."""
        return self._attachments.engines()

    def _lacks_output(self, engine: EngineProtocol) -> bool:
        """Return whether the output is missing because the loaded state does not contain it.

        Only the first call after loading a state can return ``True``.
        """
        saved_after, self._saved_after = self._saved_after, None
        if engine.state.output is not None or engine.state.iteration != saved_after:
            return False
        warnings.warn(
            f"{type(self).__name__} skips one update at {engine.current_event}: the loaded state was saved at iteration "
            f"{saved_after} and does not contain the output of that iteration",
            GlowplugWarning,
            stacklevel=2,
        )
        return True

    def _named_values(self, name: str, value: Any) -> dict[str, Any]:
        """Return the values to publish, keyed by name."""
        if not isinstance(value, Mapping):
            return {name: self.publishable(value)}
        if self._metrics_result_mode == "flatten":
            return dict(value)
        if name in value:
            raise ValueError(
                f"{type(self).__name__} is attached as {name!r}, which is also a key of its value (keys: {list(value)}); "
                "attach the metric under another name, or create it with metrics_result_mode='flatten'"
            )
        return {name: value} if self._metrics_result_mode == "named" else {**value, name: value}


class MetricsLambda(Metric):
    """A metric that is computed from other metrics, such as the result of arithmetic on metrics.

    If a ``MetricsLambda`` is attached to an engine, the engine resets and updates the component metrics but publishes only the
    value of the function ``f``. To publish a component as well, attach the component with the same usage.

    Args:
        f: The function that computes the value. At each :meth:`compute`, ``f`` is called with the values of the component
            metrics. Tensors are moved to the CPU before the call.
        *args: Positional arguments of ``f``. Each metric passed here becomes a component, and ``f`` receives its value.
        skip_unrolling: See :class:`Metric`. Each component uses its own setting.
        metrics_result_mode: See :class:`Metric`.
        **kwargs: Keyword arguments of ``f``. Each metric passed here becomes a component, as in ``*args``.

    Raises:
        TypeError: If ``f`` is not callable, or if an argument is a metric from another library.

    Example:
        >>> from glowplug import Engine
        >>> class Total(Metric):
        ...     def reset(self):
        ...         self.value = 0
        ...
        ...     def update(self, output):
        ...         self.value += output
        ...
        ...     def compute(self):
        ...         return self.value
        >>> total, count = Total(), Total(output_transform=lambda _: 1)
        >>> engine = Engine(lambda engine, batch: batch)
        >>> _ = (total / count).attach(engine, "mean")
        >>> engine.run([1, 2, 6]).metrics
        {'mean': 3.0}
    """

    _state_dict_all_req_keys = ("leaves",)

    def __init__(
        self,
        f: Callable[..., Any],
        *args: Any,
        skip_unrolling: bool = False,
        metrics_result_mode: ResultMode = "both",
        **kwargs: Any,
    ) -> None:
        if not callable(f):
            raise TypeError(f"f must be callable, got {f!r}")
        for value in (*args, *kwargs.values()):
            if hasattr(value, "compute") and not isinstance(value, Metric):
                raise TypeError(
                    f"{type(value).__name__} is not a glowplug metric; to use a torchmetrics metric, wrap it with "
                    "TorchMetric(metric) from glowplug-torchmetrics"
                )
        self.function = f
        # Metric.__init__ calls reset(), which must not discard the data of the given metrics.
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        super().__init__(skip_unrolling=skip_unrolling, metrics_result_mode=metrics_result_mode)
        self.args, self.kwargs = args, kwargs

    @property
    def leaves(self) -> list[Metric]:
        """The component metrics, without duplicates; a nested ``MetricsLambda`` is replaced by its own components."""
        given = (value for value in chain(self.args, self.kwargs.values()) if isinstance(value, Metric))
        leaves = chain.from_iterable(m.leaves if isinstance(m, MetricsLambda) else [m] for m in given)
        return list({id(leaf): leaf for leaf in leaves}.values())

    def reset(self) -> None:
        """Reset the component metrics."""
        self._updated_by_hand = False
        for leaf in self.leaves:
            leaf.reset()

    def update(self, output: Any) -> None:
        """Update each component metric once.

        Args:
            output: The argument of each component's ``update``. The ``output_transform`` of a component is not applied.

        Raises:
            ValueError: If this metric is attached, because then the engine updates the components.
        """
        if self.attached_engines():
            raise ValueError(
                "this MetricsLambda is attached to an engine, which updates the component metrics; detach this "
                "MetricsLambda before calling update()"
            )
        self._updated_by_hand = True
        for leaf in self.leaves:
            leaf.update(output)

    def compute(self) -> Any:
        """Return the result of ``f`` for the current values of the component metrics."""
        return self.function(
            *map(_value, self.args), **{name: _value(value) for name, value in self.kwargs.items()}
        )

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let an engine reset and update the component metrics; see :meth:`Metric.feed`.

        Raises:
            ValueError: If :meth:`update` was called directly since the last reset, or if a component is already used with
                another usage.
        """
        if self._updated_by_hand:
            raise ValueError(
                "this MetricsLambda holds data from direct calls to update(); call reset() before attach()"
            )
        usage = self.usage_or_default(usage)
        with ExitStack() as fed:
            for leaf in self.leaves:
                fed.enter_context(leaf.feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)


def _continues(engine: EngineProtocol, epoch: int) -> bool:
    """Return whether the run continues an earlier one and is at STARTED, or at EPOCH_STARTED of the given epoch."""
    if engine.state.run_start is RunStart.NEW:
        return False
    event = engine.current_event
    return event is Events.STARTED or (event is Events.EPOCH_STARTED and engine.state.epoch == epoch)


def _continues_unfinished_epoch(engine: EngineProtocol) -> bool:
    """Return whether the engine, at STARTED or EPOCH_STARTED, continues an epoch that an exception cut short."""
    state = engine.state
    return (
        state.run_start is RunStart.CONTINUED
        and state.iteration > state.epoch_start
        and engine.current_event in {Events.STARTED, Events.EPOCH_STARTED}
    )


def _value(argument: Any) -> Any:
    value = argument.compute() if isinstance(argument, Metric) else argument
    return value.cpu() if isinstance(value, torch.Tensor) else value
