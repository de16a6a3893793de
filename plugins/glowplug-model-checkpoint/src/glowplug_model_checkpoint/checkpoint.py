"""Checkpoint handler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

from glowplug import CallableEventWithFilter, EventEnum, Events, EventsList, Phase, RemovableEventHandle
from glowplug.distributed import rank
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol, SaveHandler
from glowplug_model_checkpoint import filenames
from glowplug_model_checkpoint.disk_saver import DiskSaver, save_method
from glowplug_model_checkpoint.objects import Objects, load_states, read, states
from glowplug_model_checkpoint.ranks import alone, check_rank, together
from glowplug_model_checkpoint.retention import Item, Retention, item_from, plain_number, without
from glowplug_model_checkpoint.save_handler import FunctionSaver, handler_at, is_address, load_from_address

__all__ = ["Checkpoint", "CheckpointEvents"]

AnyEvent: TypeAlias = CallableEventWithFilter | EventsList | str
ScoreFunction: TypeAlias = Callable[[Any], Any]


class CheckpointEvents(EventEnum):
    """Events that a checkpoint fires on the engine."""

    SAVED_CHECKPOINT = "saved_checkpoint"


class _Plan(NamedTuple):
    """The plan of rank 0 for saving a checkpoint."""

    item: Item
    name: str
    kept: tuple[Item, ...]
    evicted: tuple[Item, ...]


class Checkpoint:
    """Saves the states of objects and keeps the best or latest checkpoints.

    Checkpoints are ranked by score, or by step if there is no score. If the score is NaN or infinite, nothing is saved. An older
    checkpoint is removed only after the new one is on disk, so a failure during a save leaves the older checkpoints intact.

    With several ranks, all ranks must call the handler. Rank 0 decides whether to save, and the rank ``save_on_rank`` writes the
    checkpoint. All ranks wait until the checkpoint can be read. If one rank fails, all ranks raise an exception.

    If the handler is attached to ``EXCEPTION_RAISED``, the exception is still raised after the save. With several ranks, this
    event causes a save only if the exception happens on the rank ``save_on_rank``. The other ranks do not take part in the save,
    so an object that gathers its ``state_dict()`` from all ranks cannot be saved at this event.

    Args:
        to_save: Mapping of names to objects with ``state_dict()``, or to nested mappings, lists and tuples of such objects.
            The mapping is copied. The engine can be one of the objects; the handler does not keep the engine alive. The file
            contains a dict that maps the names to the states of the objects. For a single object, the file contains only the bare
            state of the object, unless ``include_self`` is true.
        save_handler: Where to save: a folder, an address such as ``"s3://bucket/run"``, a :class:`glowplug.typing.SaveHandler`
            or a function. In a folder, a :class:`DiskSaver` writes the files. An address requires a plugin that handles this kind
            of address. A function is called as ``f(checkpoint, filename, metadata)`` or ``f(checkpoint, filename)``. This handler
            cannot load files that a function wrote, and removes such files only if the function has an attribute ``remove``.
        filename_prefix: First part of each file name.
        score_function: Function of the engine that returns the score. A higher score is better.
        score_name: Name of the score in file names. Without ``score_function``, the score is the metric of this name in
            ``engine.state.metrics``.
        n_saved: Number of checkpoints to keep; ``None`` keeps all.
        global_step_transform: Function that is called as ``f(engine, event)`` and returns the step, an integer. By default, the
            step is the engine's iteration.
        filename_pattern: Pattern with the fields ``filename_prefix``, ``name``, ``global_step``, ``score_name``, ``score``
            and ``ext``. The step and the score can have a format, such as ``{global_step:05d}`` and ``{score:.3f}``. The
            default is ``[prefix_]name[_step][_scorename=score].pt``, where the parts in brackets are optional.
        include_self: Whether to save the state of this handler in the checkpoint, under the key ``"checkpointer"``.
        greater_or_equal: Whether to keep the latest of several checkpoints with equal scores. By default, the first of these
            checkpoints is kept.
        save_on_rank: Rank that writes the checkpoints.
        state_key: Key of this handler's state in ``engine.state_dict()``. The default key is the class name and the
            ``filename_prefix``, such as ``"Checkpoint:best"``. Without a prefix, the key contains ``score_name``, if given.

    Raises:
        TypeError: If an argument has the wrong type, such as an object without ``state_dict()``.
        ValueError: If a name is not safe in a file name, if ``n_saved`` is below 1, or if the pattern has unknown fields.
        ImportError: If no installed plugin handles the address.

    Example:
        >>> import tempfile
        >>> from glowplug import Engine, Events
        >>> from torch import nn
        >>> folder = tempfile.TemporaryDirectory()
        >>> trainer = Engine(lambda engine, batch: None)
        >>> checkpoint = Checkpoint({"model": nn.Linear(2, 1), "trainer": trainer}, folder.name, n_saved=2)
        >>> handle = checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        >>> @trainer.on(Checkpoint.SAVED_CHECKPOINT)
        ... def announce():
        ...     print(checkpoint.last_checkpoint.name)
        >>> state = trainer.run([1, 2, 3], max_epochs=3)
        checkpoint_3.pt
        checkpoint_6.pt
        checkpoint_9.pt
        >>> [item.filename for item in checkpoint.saved]
        ['checkpoint_6.pt', 'checkpoint_9.pt']
        >>> folder.cleanup()

        ``attach`` registers the event ``SAVED_CHECKPOINT`` with the engine. If you call ``add_event_handler`` instead of
        ``attach``, the event is registered only when the checkpoint handler is first called. To add handlers for the event
        earlier, call ``engine.register_events(*CheckpointEvents)`` first.
    """

    SAVED_CHECKPOINT: ClassVar[CheckpointEvents] = CheckpointEvents.SAVED_CHECKPOINT
    phase: ClassVar[Phase] = Phase.CHECKPOINT
    ext: str = filenames.EXTENSION

    def __init__(
        self,
        to_save: Mapping[str, Any],
        save_handler: str | Path | SaveHandler | Callable[..., object],
        filename_prefix: str = "",
        score_function: ScoreFunction | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        global_step_transform: Callable[[Any, Any], Any] | None = None,
        filename_pattern: str | None = None,
        include_self: bool = False,
        greater_or_equal: bool = False,
        save_on_rank: int = 0,
        *,
        state_key: str | None = None,
    ) -> None:
        self._kept = Retention(n_saved, greater_or_equal)
        for name, function in (
            ("score_function", score_function),
            ("global_step_transform", global_step_transform),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be callable; got {function!r}")
        self.filename_prefix = filenames.check_part("filename_prefix", filename_prefix)
        self.score_name = None if score_name is None else filenames.check_part("score_name", score_name)
        self.filename_pattern = (
            None if filename_pattern is None else filenames.check_pattern(filename_pattern)
        )
        self.score_function = score_function
        if score_name is not None and score_function is None:
            self.score_function = self.get_default_score_fn(score_name)
        self.global_step_transform = global_step_transform
        self.include_self = include_self
        self.save_on_rank = save_on_rank
        self.state_key = self._default_state_key() if state_key is None else state_key
        self._objects = self._checked(to_save)
        self.save_handler = self._handler(save_handler)
        self._store = _store(self.save_handler)
        # Items that are being saved but not yet recorded.
        self._pending: tuple[Item, ...] = ()
        self._has_warned = False

    def _default_state_key(self) -> str:
        distinguishing = self.filename_prefix or self.score_name
        return f"{type(self).__name__}:{distinguishing}" if distinguishing else type(self).__name__

    @property
    def to_save(self) -> Mapping[str, Any]:
        """The objects to save, as a read-only mapping; assign another mapping to replace the objects."""
        return self._objects.resolve()

    @to_save.setter
    def to_save(self, to_save: Mapping[str, Any]) -> None:
        self._objects = self._checked(to_save)

    # Retained checkpoints

    @property
    def saved(self) -> tuple[Item, ...]:
        """The retained checkpoints, in the order in which they were saved."""
        return self._kept.items

    @property
    def last_checkpoint(self) -> Path | str | None:
        """The location of the most recent checkpoint; ``None`` before the first save.

        The location is what the ``locate`` method of the save handler returns, such as a file path or an address. If the save
        handler is a function without the attribute ``locate``, the location is the file name.
        """
        return self._locate(self._kept.last)

    @property
    def best_checkpoint(self) -> Path | str | None:
        """The location of the checkpoint with the highest score or, if there is no score, with the highest step."""
        return self._locate(self._kept.best)

    def reset(self) -> None:
        """Forget the retained checkpoints without removing their files."""
        self._kept.items = ()

    def state_dict(self) -> dict[str, Any]:
        """Return the retained checkpoints as pairs of priority (score or step) and file name.

        A state that is stored inside a checkpoint also lists that checkpoint. This is safe, because the state can be read
        only if the checkpoint was saved successfully.
        """
        return {"_saved": self._kept.state(*self._pending)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the list of checkpoints that an earlier run retained.

        Checkpoints that no longer exist are omitted. If the save handler is a function, it cannot show which checkpoints exist,
        so the whole list is loaded.

        Args:
            state_dict: Result of :meth:`state_dict`.

        Raises:
            ValueError: If the state is malformed or contains an unsafe file name. This error leaves the handler unchanged.
        """
        try:
            items = [item_from(*pair) for pair in state_dict["_saved"]]
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{type(self).__name__} cannot load this state ({error!r}); expected {{'_saved': [(priority, filename), ...]}}"
            ) from error
        if not isinstance(self._store, FunctionSaver):
            stored = set(self._store.list())
            items = [item for item in items if item.filename in stored]
        self._kept.items = tuple(items)

    # Attaching

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.EPOCH_COMPLETED
    ) -> RemovableEventHandle:
        """Save checkpoints at an event, after the metrics, other handlers and loggers of the event have run.

        Args:
            engine: Engine that is passed to ``score_function`` and ``global_step_transform``, and that fires
                ``SAVED_CHECKPOINT``.
            event_name: Event at which to save; combine several events with ``|``.

        Returns:
            A handle that detaches this handler.
        """
        return self._attach(engine, event_name)

    def _attach(self, engine: EngineProtocol, event_name: AnyEvent, *arguments: Any) -> RemovableEventHandle:
        engine.register_events(*CheckpointEvents)
        handle = engine.add_event_handler(event_name, self, *arguments)
        try:
            return RemovableEventHandle.join(handle, engine.register_state(self.state_key, self))
        except BaseException:
            handle.remove()
            raise

    # Saving

    def __call__(self, engine: EngineProtocol, exception: BaseException | None = None, /) -> None:
        """Save a checkpoint if it ranks high enough, then remove surplus checkpoints.

        Args:
            engine: Engine that fires the event.
            exception: Exception that ended the run, if the event is ``EXCEPTION_RAISED``.

        Raises:
            ValueError: If the score is not a number, the step is not an integer, or the rank ``save_on_rank`` does not exist.
            RuntimeError: If ``to_save`` is empty, or another rank failed to save.
            OSError: If the checkpoint cannot be written. This error leaves the list of retained checkpoints unchanged.
        """
        if not self._objects.names:
            raise RuntimeError(
                f"{type(self).__name__} has nothing to save: to_save is empty; pass to_save={{'model': model}}"
            )
        check_rank(self.save_on_rank)
        engine.register_events(*CheckpointEvents)
        # A handler with objects by keyword gets no exception.
        has_failed = exception is not None or engine.current_event == Events.EXCEPTION_RAISED
        if has_failed and rank() != self.save_on_rank:
            return
        run = alone if has_failed else together
        plan = run(partial(self._decide, engine))
        if plan is None:
            return
        run(partial(self._carry_out, plan, has_failed))
        self._kept.items = plan.kept
        engine.fire_event(self.SAVED_CHECKPOINT)

    def _decide(self, engine: EngineProtocol) -> _Plan | None:
        step = self._step(engine)
        score = self._score(engine)
        priority = step if score is None else score
        if not math.isfinite(priority):
            self._warn_once(priority)
            return None
        if not self._kept.admits(priority):
            return None
        name = self._name(self._objects.names)
        item = Item(priority, self._filename(name, score, step, with_step=self._has_step))
        kept = self._kept.keep_with(item)
        return _Plan(item, name, kept, evicted=without(self._kept.items, *kept))

    def _score(self, engine: EngineProtocol) -> Any:
        if self.score_function is None:
            return None
        return plain_number("the score of a checkpoint", self.score_function(engine))

    def _step(self, engine: EngineProtocol) -> int:
        if self.global_step_transform is None:
            return engine.state.iteration
        step = self.global_step_transform(engine, engine.current_event)
        if not isinstance(step, Integral):
            raise ValueError(f"global_step_transform must return an integer; got {step!r}")  # noqa: TRY004 - as for the score
        return int(step)

    def _carry_out(self, plan: _Plan, is_alone: bool) -> None:
        """Save and record the new checkpoint before removing older ones, so that at least one can always be loaded."""
        self._pending = (plan.item,)
        try:
            content = self._content(is_alone)
        finally:
            self._pending = ()
        if rank() != self.save_on_rank:
            return
        basename = f"{self.filename_prefix}_{plan.name}" if self.filename_prefix else plan.name
        metadata = {"basename": basename, "score_name": self.score_name, "priority": plan.item.priority}
        save_method(self._store)(content, plan.item.filename, metadata)
        self._kept.items = (*without(self._kept.items, plan.item), plan.item)
        for item in plan.evicted:
            self._store.remove(item.filename)
            self._kept.items = without(self._kept.items, item)

    def _content(self, is_alone: bool) -> Any:
        content = states(self.to_save, self.save_on_rank, is_alone)
        if self.include_self:
            return {**content, "checkpointer": self.state_dict()}
        return content if len(content) > 1 else next(iter(content.values()))

    def _warn_once(self, score: float) -> None:
        if not self._has_warned and rank() == 0:
            self._has_warned = True
            warnings.warn(
                f"{type(self).__name__} skipped a checkpoint because its score is {score}; check score_function and whether "
                "the training diverged (TerminateOnNan stops such runs). Further skips are not reported",
                GlowplugWarning,
                stacklevel=2,
            )

    # Names

    @property
    def _has_step(self) -> bool:
        return self.score_function is None or self.global_step_transform is not None

    def _filename(self, name: str, score: float | None, step: int | None, *, with_step: bool) -> str:
        pattern = self.filename_pattern
        if pattern is None:
            pattern = self.setup_filename_pattern(
                with_prefix=bool(self.filename_prefix),
                with_score=self.score_function is not None,
                with_score_name=self.score_name is not None,
                with_global_step=with_step,
            )
        return filenames.render(
            pattern,
            filename_prefix=self.filename_prefix,
            name=name,
            score_name=self.score_name,
            score=score,
            global_step=step,
            ext=self.ext,
        )

    @staticmethod
    def _name(names: Collection[str]) -> str:
        return next(iter(names)) if len(names) == 1 else "checkpoint"

    setup_filename_pattern = staticmethod(filenames.setup_filename_pattern)

    @staticmethod
    def get_default_score_fn(metric_name: str, score_sign: float = 1.0) -> ScoreFunction:
        """Return a score function that reads a metric.

        The function raises a KeyError if the engine does not have the metric.

        Args:
            metric_name: Key of ``engine.state.metrics``.
            score_sign: 1.0 if higher values of the metric are better; -1.0 if lower values are better.

        Raises:
            ValueError: If ``score_sign`` is neither 1.0 nor -1.0.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> fake = FakeEngine()
            >>> fake.state.metrics = {"loss": 0.25}
            >>> Checkpoint.get_default_score_fn("loss", -1.0)(fake)
            -0.25
        """
        if score_sign not in {1.0, -1.0}:
            raise ValueError(
                f"score_sign must be 1.0 (higher is better) or -1.0 (lower is better); got {score_sign!r}"
            )
        return partial(_score_of, metric_name, score_sign)

    # Loading

    @staticmethod
    def load_objects(
        to_load: Mapping[str, Any], checkpoint: str | Path | Mapping[str, Any], **kwargs: Any
    ) -> None:
        """Load a checkpoint into objects without running code from the file.

        Args:
            to_load: Mapping of names to objects, with the same names as in ``to_save``. Keys of the checkpoint that are not in
                ``to_load`` are ignored. For a single object, the checkpoint may be the bare state of the object.
            checkpoint: A file, an address such as ``"s3://bucket/run/model_1.pt"``, or a mapping that is already loaded.
            **kwargs: Arguments of ``torch.nn.Module.load_state_dict``, such as ``strict=False``.

        Raises:
            TypeError: If an object has no ``load_state_dict()``, or if the checkpoint does not contain a mapping.
            ValueError: If the checkpoint lacks the state of an object. After this error, no object has been loaded.

        Example:
            >>> from torch import nn
            >>> model, saved = nn.Linear(2, 1), {"model": nn.Linear(2, 1).state_dict()}
            >>> Checkpoint.load_objects({"model": model}, saved)
            >>> bool((model.weight == saved["model"]["weight"]).all())
            True
        """
        content = _content_of(checkpoint)
        if not isinstance(content, Mapping):
            raise TypeError(
                "checkpoint must be a mapping of names to states, or a file or address that contains one; got "
                f"{type(content).__name__} ({checkpoint!r})"
            )
        load_states(to_load, content, kwargs)

    def reload_objects(
        self,
        to_load: Mapping[str, Any],
        load_kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        score: float | None = None,
        global_step: int | None = None,
    ) -> None:
        """Load a checkpoint that this handler saved, identified by the parts of its file name.

        Args:
            to_load: Objects, as for :meth:`load_objects`.
            load_kwargs: Arguments of ``torch.nn.Module.load_state_dict``.
            name: Name in the file name. The default is the key of a single object, or ``"checkpoint"`` for several objects.
            score: Score of the checkpoint, with at least as many decimal places as in the file name.
            global_step: Step in the file name.

        Raises:
            TypeError: If the save handler is a function, because a function cannot load checkpoints.
            FileNotFoundError: If a DiskSaver does not find the file. Other save handlers raise their own exceptions.
        """
        name = self._name(to_load) if name is None else name
        filename = self._filename(name, score, global_step, with_step=global_step is not None)
        self.load_objects(to_load, self._store.load(filename), **(load_kwargs or {}))

    # Arguments

    def _checked(self, to_save: object) -> Objects:
        objects = to_save if isinstance(to_save, Objects) else Objects(to_save)
        if self.include_self and "checkpointer" in objects.names:
            raise ValueError(
                "with include_self=True, the key 'checkpointer' of to_save is reserved for the state of the checkpoint handler; "
                "rename the key"
            )
        return objects

    def _handler(self, save_handler: Any) -> Any:
        if is_address(save_handler):
            return handler_at(save_handler)
        if isinstance(save_handler, (str, Path)):
            return DiskSaver(
                save_handler, save_on_rank=self.save_on_rank, filename_prefix=self.filename_prefix
            )
        if isinstance(save_handler, DiskSaver) and save_handler.save_on_rank != self.save_on_rank:
            raise ValueError(
                f"save_on_rank is {save_handler.save_on_rank} for the DiskSaver but {self.save_on_rank} for "
                f"{type(self).__name__}, so nothing would be written; pass the same value to both"
            )
        return save_handler

    def _locate(self, item: Item | None) -> Path | str | None:
        return None if item is None else self._store.locate(item.filename)


def _store(save_handler: Any) -> SaveHandler:
    """Return a save handler that implements :class:`SaveHandler`; a function is wrapped."""
    return save_handler if isinstance(save_handler, SaveHandler) else FunctionSaver(save_handler)


def _content_of(checkpoint: Any) -> Any:
    if is_address(checkpoint):
        return load_from_address(checkpoint)
    return read(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint


def _score_of(metric_name: str, score_sign: float, engine: EngineProtocol) -> Any:
    metrics = engine.state.metrics
    if metric_name not in metrics:
        raise KeyError(
            f"the score is the metric {metric_name!r}, but the engine has only the metrics {list(metrics)}; attach the "
            "checkpoint to the evaluator that computes the metric, or pass score_function"
        )
    return score_sign * metrics[metric_name]
