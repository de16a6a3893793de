"""Metric: something that is reset, updated with outputs, and computed, by hand or by an engine."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from numbers import Number
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn
from weakref import WeakKeyDictionary

import torch

from glowplug.events import Events
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.handles import RemovableEventHandle
from glowplug.metrics._arithmetic import MetricArithmetic
from glowplug.metrics._state import RankState, gather_state, has_state, restore_state
from glowplug.metrics._usage import EpochWise, MetricUsage, as_usage
from glowplug.phase import Phase
from glowplug.typing import EngineProtocol

__all__ = ["Metric", "identity"]

ResultMode = Literal["flatten", "named", "both"]

_names_in_use: WeakKeyDictionary[EngineProtocol, set[str]] = WeakKeyDictionary()


def identity(output: Any) -> Any:
    """Return the output as it is: the default ``output_transform``.

    Example:
        >>> identity(3)
        3
    """
    return output


class Metric(MetricArithmetic, ABC):
    """Base class of metrics: write :meth:`reset`, :meth:`update` and :meth:`compute`, and get the rest (M-001).

    Attached to an engine, a metric is reset, updated with ``engine.state.output`` and computed as its usage says, and
    its value appears in ``engine.state.metrics`` under the name given to :meth:`attach`. It runs before the user's
    handlers, loggers and checkpoints of the same event, which therefore see the new value.

    A value that is a tensor without dimensions becomes a Python number, another tensor comes to the CPU. A value that is
    a mapping is published as ``metrics_result_mode`` says (M-007). An epoch without data gives no value: the name is
    missing in ``state.metrics``, and a warning says so once (M-010).

    Metrics can be combined: ``2 * precision * recall / (precision + recall)``, ``confusion["tp"]``, ``f1.mean()``,
    ``metric.map(function)`` are metrics too.

    Args:
        output_transform: makes of ``engine.state.output`` what :meth:`update` takes. A mapping that it returns is reduced
            to the values of ``required_output_keys`` (M-008).
        device: where accumulators are made.
        skip_unrolling: give lists of samples to :meth:`update` as they are. By default an output of two lists of tensors
            or numbers, as models with inputs of several sizes have, is taken sample by sample (M-009).
        metrics_result_mode: how a mapping is published: ``"flatten"``, each of its keys; ``"named"``, as one value under
            the metric's name; ``"both"``.

    Raises:
        TypeError: ``output_transform`` cannot be called.
        ValueError: another ``metrics_result_mode``.

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
    """What :meth:`update` gets, as a tuple, of an output that is a mapping; ``None``: it takes no mappings."""

    default_usage: ClassVar[MetricUsage] = EpochWise()
    """The usage of :meth:`attach` where none is given."""

    _state_dict_all_req_keys: tuple[str, ...] = ()
    """The attributes that are the metric's state: numbers, tensors, ``None``, metrics, and lists and dicts of these."""

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
        metrics_result_mode: ResultMode = "both",
    ) -> None:
        if not callable(output_transform):
            raise TypeError(
                f"output_transform must be a function of the engine's output, got {output_transform!r}"
            )
        if metrics_result_mode not in {"flatten", "named", "both"}:
            raise ValueError(
                f"metrics_result_mode must be 'flatten', 'named' or 'both', got {metrics_result_mode!r}"
            )
        self._output_transform = output_transform
        self._device = torch.device(device)
        self._skip_unrolling = skip_unrolling
        self._metrics_result_mode = metrics_result_mode
        self._kept_for_epoch: int | None = None
        self._saved_after: int | None = None
        self._forget_engines()
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Forget all data."""

    @abstractmethod
    def update(self, output: Any) -> None:
        """Take the output of one iteration, as ``output_transform`` returned it."""

    @abstractmethod
    def compute(self) -> Any:
        """Return the value for the data since the last reset.

        Under several processes this is a collective: every rank calls it, equally often (M-062).

        Raises:
            NotComputableError: there has been no data.
        """

    @property
    def device(self) -> torch.device:
        """Where accumulators are made."""
        return self._device

    # With an engine

    def attach(
        self, engine: EngineProtocol, name: str, usage: str | MetricUsage | None = None
    ) -> RemovableEventHandle:
        """Let an engine reset, update and compute this metric, and publish its value in ``state.metrics[name]``.

        Args:
            engine: the engine. One metric can serve several, one run after the other, and have several names (M-004).
            name: the key in ``engine.state.metrics``.
            usage: when it is reset, updated and computed: an object such as ``BatchWise()``, or its name; by default
                :attr:`default_usage`, which is once per epoch for nearly all metrics.

        Returns:
            A handle that takes back what this call added.

        Raises:
            ValueError: an unknown name of a usage; the engine has a metric of that name; or this metric is in use with
                another usage, by itself or as part of another metric, whose resets would mix with these (M-005).
            TypeError: a usage that is neither.
        """
        usage = self.usage_or_default(usage)
        names = _names_in_use.setdefault(engine, set())
        if name in names:
            raise ValueError(
                f"the engine has a metric {name!r} already, whose value this {type(self).__name__} would replace: give "
                "it another name, or take the other one off first with its detach(engine) or the handle of its attach"
            )
        with ExitStack() as added:
            added.enter_context(self.feed(engine, usage))
            added.enter_context(engine.add_event_handler(usage.COMPLETED, self.completed, name))
            if has_state(self):
                added.enter_context(engine.register_state(f"metric {name}", RankState(self, engine.state)))
            names.add(name)
            added.callback(names.discard, name)
            attachment = _Attachment(usage, RemovableEventHandle(added.pop_all().close))
        self._attachments.setdefault(engine, []).append(attachment)
        return RemovableEventHandle(attachment.remove)

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let an engine reset and update this metric, without a name for its value.

        For metrics that are made of others: whoever feeds a metric takes part in the same resets and updates, which end
        with the last handle.

        Args:
            engine: the engine.
            usage: as for :meth:`attach`.

        Returns:
            A handle that takes the resets and updates back, if nobody else needs them.

        Raises:
            ValueError: the metric is in use with another usage (M-005).
        """
        usage = self.usage_or_default(usage)
        for other in self._feeds.values():
            if other.users and other.usage != usage:
                raise ValueError(
                    f"this {type(self).__name__} is in use as {other.usage!r}, and cannot be used as {usage!r} too: both "
                    "would reset and update the same numbers. Attach a second object (copy.deepcopy(metric) makes one), "
                    "or detach this one first"
                )
        feed = self._feeds.get(engine)
        if feed is None or not feed.users:
            started = engine.add_event_handler(usage.STARTED, self.started)
            updated = self.add_updates(engine, usage)
            feed = self._feeds[engine] = _Feed(usage, RemovableEventHandle.join(started, updated))
        feed.users += 1
        return RemovableEventHandle(feed.leave)

    def add_updates(self, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Let an engine update this metric; for metrics that are updated together with others.

        Args:
            engine: the engine.
            usage: its ``ITERATION_COMPLETED`` says when.

        Returns:
            A handle that takes it back.
        """
        return engine.add_event_handler(usage.ITERATION_COMPLETED, self.iteration_completed)

    def detach(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> None:
        """Take back all that :meth:`attach` added with this usage, under all names; values stay in ``state.metrics``.

        Args:
            engine: the engine.
            usage: as given to :meth:`attach` (M-003).
        """
        for attachment in self._attachments_at(engine, usage):
            attachment.remove()

    def is_attached(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> bool:
        """Return whether the metric is attached to that engine with that usage (M-003)."""
        return bool(self._attachments_at(engine, usage))

    def started(self, engine: EngineProtocol) -> None:
        """Reset: the handler of the usage's ``STARTED`` (M-002).

        A metric that took its state from the engine's keeps it where the engine goes on with the same run or epoch.
        """
        epoch, self._kept_for_epoch = self._kept_for_epoch, None
        if epoch is None or not _goes_on(engine, epoch):
            self._saved_after = None
            self.reset()

    def iteration_completed(self, engine: EngineProtocol) -> None:
        """Update with the engine's output: the handler of the usage's ``ITERATION_COMPLETED`` (M-002).

        Raises:
            TypeError: the output is a mapping, and this metric takes none.
            ValueError: a key is missing in such a mapping, or lists of samples do not come as two of equal length.
        """
        if self.takes_output(engine):
            was_enabled = torch.is_grad_enabled()
            torch.set_grad_enabled(False)  # no_grad() takes twice the time, which shows at each iteration
            try:
                for part in self.parts(self.transformed(engine.state.output)):
                    self.update(part)
            finally:
                torch.set_grad_enabled(was_enabled)

    def takes_output(self, engine: EngineProtocol) -> bool:
        """Return whether the engine has an output for this metric: not after a load, until its next iteration."""
        return self._saved_after is None or not self._lacks_output(engine)

    def parts(self, output: Any) -> Iterable[Any]:
        """Return what :meth:`update` takes of an output, one after the other: all at once, or sample by sample (M-009).

        Args:
            output: as :meth:`transformed` returned it.

        Raises:
            ValueError: lists of samples do not come as two of equal length.
        """
        return (output,) if self._skip_unrolling or not _is_list_batch(output) else _samples(output)

    def completed(self, engine: EngineProtocol, name: str) -> None:
        """Compute and publish: the handler of the usage's ``COMPLETED`` (M-002).

        Raises:
            ValueError: the value is a mapping that has the metric's name as a key (M-007).
        """
        metrics = engine.state.metrics
        for key in self._published.pop(name, (name,)):
            metrics.pop(key, None)
        try:
            with torch.no_grad():
                values = self._named_values(name, self.compute())
        except NotComputableError as reason:
            self._warn_once(name, reason)
            return
        self._published[name] = tuple(values)
        metrics.update(values)

    def transformed(self, output: Any) -> Any:
        """Return what :meth:`update` takes of an engine's output: ``output_transform``, then :meth:`select` for a mapping.

        For metrics that update others.
        """
        output = self._output_transform(output)
        return self.select(output) if isinstance(output, Mapping) else output

    def select(self, output: Mapping[Any, Any]) -> Any:
        """Return what :meth:`update` takes of a mapping: a tuple of the values of ``required_output_keys`` (M-008).

        Raises:
            TypeError: this metric takes no mappings.
            ValueError: a key is missing.
        """
        keys = self.required_output_keys
        if keys is None:
            raise TypeError(
                f"{type(self).__name__} takes no mappings, and the output is one with the keys {list(output)}; give it an "
                "output_transform that picks what it needs"
            )
        missing = [key for key in keys if key not in output]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs the keys {', '.join(keys)} of the output, which has {list(output)}: "
                f"{', '.join(missing)} is missing. Add it, or give the metric an output_transform that returns a tuple"
            )
        return tuple(output[key] for key in keys)

    def publishable(self, value: Any) -> Any:
        """Return what is published for a value: a number for a tensor without dimensions, any other tensor on the CPU."""
        if isinstance(value, torch.Tensor):
            return value.item() if value.ndim == 0 else value.cpu()
        return value

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return the accumulated state of all ranks; with several, a collective (M-070).

        Raises:
            NotImplementedError: the class does not say which attributes are its state.
            TypeError: one of them cannot be saved.
        """
        return gather_state(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state that :meth:`state_dict` returned, this rank's part of it (M-071).

        Raises:
            TypeError: not a mapping.
            ValueError: it is of other metrics, or of another number of ranks.
        """
        restore_state(self, state_dict)

    def keep_for_epoch(self, epoch: int | None, iteration: int | None = None) -> None:
        """Keep the present data if an engine goes on with this epoch (``None``: whatever it does, start anew).

        Args:
            epoch: the epoch that the data is of.
            iteration: the last one before the data was saved.
        """
        self._kept_for_epoch, self._saved_after = epoch, iteration

    def __getstate__(self) -> dict[str, Any]:
        # A copy belongs to no engine.
        ours = {"_feeds", "_attachments", "_published", "_warned"}
        return {name: value for name, value in vars(self).items() if name not in ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_engines()

    if not TYPE_CHECKING:  # to a type checker this would make every attribute exist

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}; to apply something to the value of a metric, use "
                f"metric.map(lambda value: value.{name})",
                name=name,
                obj=self,
            )

    # For subclasses

    @property
    def _double_dtype(self) -> torch.dtype:
        """The float type of accumulators: 64 bits where the device has them."""
        return torch.float32 if self._device.type == "mps" else torch.float64

    def usage_or_default(self, usage: str | MetricUsage | None) -> MetricUsage:
        """Return the usage that an argument stands for; the class's default for ``None``."""
        return self.default_usage if usage is None else as_usage(usage)

    def attached_engines(self) -> list[EngineProtocol]:
        """Return the engines that this metric is attached to."""
        return [engine for engine, all_ in self._attachments.items() if any(a.is_active for a in all_)]

    def _forget_engines(self) -> None:
        self._feeds: WeakKeyDictionary[EngineProtocol, _Feed] = WeakKeyDictionary()
        self._attachments: WeakKeyDictionary[EngineProtocol, list[_Attachment]] = WeakKeyDictionary()
        self._published: dict[str, tuple[str, ...]] = {}
        self._warned: set[str] = set()

    def _attachments_at(self, engine: EngineProtocol, usage: str | MetricUsage | None) -> list[_Attachment]:
        usage = self.usage_or_default(usage)
        return [a for a in self._attachments.get(engine, ()) if a.is_active and a.usage == usage]

    def _lacks_output(self, engine: EngineProtocol) -> bool:
        """Whether the last output is that of the run which was saved: a state does not hold it. Asked once, after a load."""
        saved_after, self._saved_after = self._saved_after, None
        if engine.state.output is not None or engine.state.iteration != saved_after:
            return False
        warnings.warn(
            f"the run goes on after iteration {saved_after}, whose output was not saved with it: a {type(self).__name__} "
            f"that takes outputs at {engine.last_event_name} goes without that one",
            GlowplugWarning,
            stacklevel=2,
        )
        return True

    def _named_values(self, name: str, value: Any) -> dict[str, Any]:
        """Name what compute() returned."""
        if not isinstance(value, Mapping):
            return {name: self.publishable(value)}
        if self._metrics_result_mode == "flatten":
            return dict(value)
        if name in value:
            raise ValueError(
                f"{type(self).__name__} is attached as {name!r}, which is also a key of its value "
                f"{list(value)}; attach it under another name, or with metrics_result_mode='flatten'"
            )
        return {name: value} if self._metrics_result_mode == "named" else {**value, name: value}

    def _warn_once(self, name: str, reason: NotComputableError) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"metric {name!r} ({type(self).__name__}) has no value and is missing in state.metrics: {reason}",
                GlowplugWarning,
                stacklevel=2,
            )


class _Feed:
    """The resets and updates of one metric at one engine, and how many need them."""

    def __init__(self, usage: MetricUsage, handle: RemovableEventHandle) -> None:
        self.usage = usage
        self.users = 0
        self._handle = handle

    def leave(self) -> None:
        self.users -= 1
        if not self.users:
            self._handle.remove()


class _Attachment:
    """What one call of attach() added."""

    def __init__(self, usage: MetricUsage, handle: RemovableEventHandle) -> None:
        self.usage = usage
        self.is_active = True
        self._handle = handle

    def remove(self) -> None:
        self.is_active = False
        self._handle.remove()


def _goes_on(engine: EngineProtocol, epoch: int) -> bool:
    """Whether the run (at STARTED) or that epoch (at EPOCH_STARTED) was begun before, and goes on now."""
    event, state = engine.last_event_name, engine.state
    same = event is Events.STARTED or (event is Events.EPOCH_STARTED and state.epoch == epoch)
    return same and state.iteration > 0


def _is_list_batch(output: object) -> bool:
    """Whether this is a list of lists of tensors or numbers."""
    if not isinstance(output, (tuple, list, Sequence)):  # an abstract class takes longer to ask
        return False
    for part in output:  # nearly always a tensor comes first, and that is the answer
        if (
            isinstance(part, torch.Tensor)
            or not isinstance(part, Sequence)
            or not all(isinstance(x, (torch.Tensor, Number)) for x in part)
        ):
            return False
    return True


def _samples(output: Sequence[Sequence[Any]]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield pairs of batches of one."""
    lengths = [len(part) for part in output]
    if len(lengths) != 2 or lengths[0] != lengths[1]:  # noqa: PLR2004 - predictions and targets
        raise ValueError(
            f"an output of lists is taken sample by sample, for which it must be two lists of equal length (predictions "
            f"and targets), got {len(lengths)} of lengths {lengths}; skip_unrolling=True gives it to update() as it is"
        )
    for pair in zip(*output, strict=True):
        yield tuple(x.unsqueeze(0) if isinstance(x, torch.Tensor) else torch.tensor([x]) for x in pair)
