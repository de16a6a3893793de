"""Checkpoint handler."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from glowplug import CallableEventWithFilter, EventEnum, Events, EventsList, Phase, RemovableEventHandle
from glowplug.distributed import rank, world_size
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol, SaveHandler
from glowplug_model_checkpoint import filenames
from glowplug_model_checkpoint.bookkeeping import Bookkeeping, Owner
from glowplug_model_checkpoint.content import content_of
from glowplug_model_checkpoint.failures import FailedSaves
from glowplug_model_checkpoint.locations import extension_of, handler_for, is_collective, load_from, store_of
from glowplug_model_checkpoint.naming import Naming
from glowplug_model_checkpoint.objects import Objects, modules_in
from glowplug_model_checkpoint.planning import Plan, Planner
from glowplug_model_checkpoint.policies import Policy, ScoreFunction, default_score_function, policy_from
from glowplug_model_checkpoint.ranks import alone, check_rank, together
from glowplug_model_checkpoint.restoring import find_and_load, load_into, load_objects
from glowplug_model_checkpoint.saved import Saved
from glowplug_model_checkpoint.saving import Order, Saves, loggers_from
from glowplug_model_checkpoint.timing import Every

if TYPE_CHECKING:
    from glowplug.loggers import Logger

__all__ = ["AnyEvent", "Checkpoint", "CheckpointEvents"]

AnyEvent: TypeAlias = CallableEventWithFilter | EventsList | Every | str


class CheckpointEvents(EventEnum):
    """Events that a checkpoint handler fires on the engine.

    Example:
        >>> import tempfile
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Checkpoint({"trainer": engine}, folder)
        ...     _ = checkpoint.attach(engine)
        ...     _ = engine.add_event_handler(CheckpointEvents.SAVED_CHECKPOINT, lambda: print("saved"))
        ...     state = engine.run([1, 2], max_epochs=2)
        saved
        saved
    """

    SAVED_CHECKPOINT = "saved_checkpoint"
    """Fires when a checkpoint is on disk and the checkpoints that are no longer kept are removed."""


class Checkpoint:
    """Save the states of objects, and keep the best or latest checkpoints.

    ``keep`` decides which checkpoints are kept: the best (:class:`KeepBest`), the last (:class:`KeepLast`), or one of each interval
    (:class:`KeepEvery`); ``|`` joins them. A checkpoint whose score is NaN or infinite is never one of the best. An older checkpoint is removed only after
    the new one is on disk, so a failure during a save leaves the older checkpoints intact. The last checkpoint with finite weights
    is never removed.

    With several ranks, all ranks must call the handler. Rank 0 decides whether to save, and the rank ``save_on_rank`` writes the
    checkpoint. All ranks wait until the checkpoint can be read. If one rank fails, all ranks raise an exception.

    If the handler is attached to ``EXCEPTION_RAISED``, the exception is still raised after the save. With several ranks, this
    event causes a save only if the exception happens on the rank ``save_on_rank``. The other ranks do not take part in the save,
    so a sharded object, whose state is gathered from all ranks, cannot be saved at this event.

    DTensors, as in a model with ``fully_shard``, are saved as whole tensors and distributed again when they are loaded, on any number
    of ranks. Objects of ``FullyShardedDataParallel`` are refused.

    Objects that are neither modules nor optimizers, such as the engine with its random numbers and its position in the data, may have
    another state on each rank. The states of all ranks are saved, and each rank loads its own. On another number of ranks, a rank
    whose state was not saved loads that of rank 0, with other random numbers, and a warning says that the run does not resume exactly.

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
        n_saved: Number of checkpoints to keep; ``None`` keeps all. With a score, ``n_saved=2`` means ``keep=KeepBest(2, ...)``,
            otherwise ``keep=KeepLast(2)``.
        global_step_transform: Function that is called as ``f(engine, event)`` and returns the step, an integer. By default, the
            step is the trainer's iteration, or the trainer's epoch if checkpoints have a score. The trainer is the engine that
            runs the handler's engine, if there is one.
        filename_pattern: Pattern with the fields ``filename_prefix``, ``name``, ``global_step``, ``epoch``, ``score_name``,
            ``score`` and ``ext``. Numbers can have a format, such as ``{global_step:05d}`` and ``{score:.3f}``. The default is
            ``[prefix_]name_step[_scorename=score].pt``, where the parts in brackets are optional. With a score in ``keep``, the
            default is ``[prefix_]name_epoch=epoch_step=step_scorename=score.pt``.
        include_self: Whether to save the state of this handler in the checkpoint, under the key ``"checkpointer"``.
        greater_or_equal: Whether to keep the latest of several checkpoints with equal scores. By default, the first of these
            checkpoints is kept.
        save_on_rank: Rank that writes the checkpoints.
        state_key: Key of this handler's state in ``engine.state_dict()``. The default key is the class name and the
            ``filename_prefix``, such as ``"Checkpoint:best"``. Without a prefix, the key contains the name of the score, if any.
        keep: Which checkpoints to keep, instead of ``n_saved``, ``score_function``, ``score_name`` and ``greater_or_equal``.
        on_error: What happens if a save fails, for example because the disk is full. ``"raise"`` raises the error. ``"warn"``
            reports the error, continues the run and attempts the next save; a summary is reported at the end of the run.
        check_finite: Whether to look for NaN and infinity in the parameters of the models, so that the last checkpoint with finite
            weights is never removed.
        resume: ``"auto"`` loads the latest checkpoint of this handler, if there is one, when the handler is attached.
        async_save: Whether to hold the step only for a copy of the states in memory, and to write the copy in the background. At
            most one save is in the background; the next save waits for it. The memory of the copy is kept for the next save.
            ``SAVED_CHECKPOINT`` fires, and older checkpoints are removed, when the checkpoint is on disk: after a later
            iteration, and at the latest at the end of the run. With several ranks, after a later epoch.
        also_to: One or more loggers that store each saved checkpoint as an artifact.

    Raises:
        TypeError: If an argument has the wrong type, such as an object without ``state_dict()``.
        ValueError: If a name is not safe in a file name, if ``n_saved`` is below 1, if the pattern has unknown fields,
            or if ``keep`` is combined with an argument that it replaces.
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
        keep: Policy | None = None,
        on_error: Literal["raise", "warn"] = "raise",
        check_finite: bool = True,
        resume: Literal["auto"] | None = None,
        async_save: bool = False,
        also_to: Logger | Sequence[Logger] = (),
    ) -> None:
        self.policy = policy_from(keep, n_saved, score_function, score_name, greater_or_equal)
        if global_step_transform is not None and not callable(global_step_transform):
            raise TypeError(f"global_step_transform must be callable; got {global_step_transform!r}")
        if on_error not in {"raise", "warn"}:
            raise ValueError(f"on_error must be 'raise' or 'warn'; got {on_error!r}")
        if resume not in {None, "auto"}:
            raise ValueError(f"resume must be 'auto' or None; got {resume!r}")
        scores = self.policy.scores
        is_mixed = keep is not None and bool(scores)
        naming = Naming(
            filename_prefix,
            filename_pattern,
            scores[0].name if is_mixed else score_name,
            is_mixed=is_mixed,
        )
        self.include_self = include_self
        self._objects = self._checked(to_save)
        # Only after the checks, because it may create a folder.
        self.save_handler = handler_for(
            save_handler, save_on_rank, filename_prefix, require_empty=resume is None
        )
        store = store_of(self.save_handler)
        if async_save and is_collective(store):
            raise ValueError(
                f"{type(store).__name__} saves on all ranks (its attribute collective is true), which is not possible in the "
                "background; pass async_save=False"
            )
        self._naming = replace(naming, ext=extension_of(store, self.ext))
        self.filename_prefix = filename_prefix
        self.score_name = self._naming.score_name
        self.save_on_rank = save_on_rank
        self.on_error = on_error
        self.resume = resume
        self.async_save = async_save
        self.resumed_from: Path | str | None = None
        self.state_key = self._default_state_key() if state_key is None else state_key
        self._books = Bookkeeping(self.policy, store, Owner(self.state_key, filename_prefix), self._naming)
        self._failures = FailedSaves(self.state_key)
        self._saves = Saves(
            self._books,
            self._failures,
            self.SAVED_CHECKPOINT,
            save_on_rank,
            raises=on_error == "raise",
            loggers=loggers_from(also_to, store),
        )
        self._planner = Planner(
            type(self).__name__, self.policy, self._naming, self._books, global_step_transform, check_finite
        )

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

    # Kept checkpoints

    @property
    def saved(self) -> tuple[Saved, ...]:
        """The kept checkpoints, in the order in which they were saved."""
        return self._books.items

    @property
    def last_checkpoint(self) -> Path | str | None:
        """The location of the most recent checkpoint; ``None`` before the first save.

        The location is what the ``locate`` method of the save handler returns, such as a file path or an address. If the save
        handler is a function without the attribute ``locate``, the location is the file name.
        """
        return self._locate(self._books.retention.last)

    @property
    def best_checkpoint(self) -> Path | str | None:
        """The location of the checkpoint with the best score or, if there is no score, with the highest step."""
        return self._locate(self._books.retention.best)

    def reset(self) -> None:
        """Forget the kept checkpoints without removing their files."""
        self._books.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the kept checkpoints with their steps and scores.

        A state that is stored inside a checkpoint also lists that checkpoint. This is safe, because the state can be read
        only if the checkpoint was saved successfully.
        """
        return self._books.state()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the list of checkpoints that an earlier run kept.

        Checkpoints that no longer exist are omitted, and so are files that this handler did not write. If the save handler is a
        function, it cannot show which checkpoints exist, so the whole list is loaded.

        Args:
            state_dict: Result of :meth:`state_dict`, also that of ignite.

        Raises:
            ValueError: If the state is malformed or contains an unsafe file name. This error leaves the handler unchanged.
        """
        try:
            self._books.load_state(state_dict)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{type(self).__name__} cannot load this state ({error!r}); expected the result of state_dict()"
            ) from error

    # Attaching

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.EPOCH_COMPLETED
    ) -> RemovableEventHandle:
        """Save checkpoints at an event, after the metrics, other handlers and loggers of the event have run.

        Args:
            engine: Engine that is passed to ``score_function`` and ``global_step_transform``, and that fires
                ``SAVED_CHECKPOINT``.
            event_name: Event at which to save; combine several events with ``|``. ``Every(minutes=10)`` means at the first
                completed iteration after each 10 minutes.

        Returns:
            A handle that detaches this handler.
        """
        handle = self._attach(engine, event_name)
        self._resume()
        return handle

    def _attach(self, engine: EngineProtocol, event_name: AnyEvent, *arguments: Any) -> RemovableEventHandle:
        engine.register_events(*CheckpointEvents)
        if isinstance(event_name, Every):
            event_name = Events.ITERATION_COMPLETED(event_filter=event_name)
        handle = engine.add_event_handler(event_name, self, *arguments)
        try:
            return RemovableEventHandle.join(handle, engine.register_state(self.state_key, self))
        except BaseException:
            handle.remove()
            raise

    def _resume(self) -> None:
        if self.resume == "auto":
            self.resumed_from = self._restore(self.to_save, "latest", None, {})
            self.resume = None

    # Saving

    def __call__(self, engine: EngineProtocol, exception: BaseException | None = None, /) -> None:
        """Save a checkpoint if the policy keeps it, then remove surplus checkpoints.

        Args:
            engine: Engine that fires the event.
            exception: Exception that ended the run, if the event is ``EXCEPTION_RAISED``.

        Raises:
            ValueError: If the score is not a number, the step is not an integer, or the rank ``save_on_rank`` does not exist.
            RuntimeError: If ``to_save`` is empty, another rank failed to save, or the handler should resume but was not attached
                with ``attach``.
            OSError: If the checkpoint cannot be written. This error leaves the list of kept checkpoints unchanged.
        """
        # A handler with objects by keyword gets no exception.
        has_failed = exception is not None or engine.current_event == Events.EXCEPTION_RAISED
        # After an exception, the process may end at any time.
        self._save(engine, is_alone=has_failed, in_background=self.async_save and not has_failed)

    def save_now(self, engine: EngineProtocol, /) -> bool:
        """Save a checkpoint without a score, whatever the events of this handler are.

        ``Preemption`` calls this method before it ends the process. All ranks must call the method.

        Args:
            engine: Engine that fires ``SAVED_CHECKPOINT``.

        Returns:
            ``True`` if a checkpoint was saved, ``False`` if the policy would not keep this checkpoint, for example because it has no score.

        Raises:
            RuntimeError: If a call of the handler would raise it.
            OSError: If the checkpoint cannot be written.
        """
        return self._save(engine, has_scores=False)

    def close(self) -> None:
        """Wait for the save in the background, if there is one. The handler can still be used afterwards.

        A run calls this method when it ends. With several ranks, all ranks must call the method.

        Raises:
            OSError: If the checkpoint cannot be written, unless ``on_error="warn"``.
        """
        self._saves.finish()

    def _save(
        self,
        engine: EngineProtocol,
        *,
        has_scores: bool = True,
        is_alone: bool = False,
        in_background: bool = False,
    ) -> bool:
        """Save a checkpoint if the policy keeps it, and return whether it was saved or is being saved."""
        self._check_ready()
        engine.register_events(*CheckpointEvents)
        self._saves.finish(is_alone=is_alone)
        if is_alone and rank() != self.save_on_rank:
            return False
        run = alone if is_alone else together
        name, modules = self._name(self._objects.names), list(modules_in(self.to_save))
        plan = run(lambda: self._planner.plan(engine, name, modules, has_scores=has_scores))
        if plan is None:
            return False
        if not is_alone:
            plan = self._planner.with_all_shards(plan, modules)
        names = [*self._objects.names, *(["checkpointer"] if self.include_self else [])]
        metadata = self._planner.metadata(plan, names)
        order = Order(engine, plan, partial(self._content, plan, is_alone), metadata, is_alone)
        return self._saves.start(order) if in_background else self._saves.save(order)

    def _check_ready(self) -> None:
        if not self._objects.names:
            raise RuntimeError(
                f"{type(self).__name__} has nothing to save: to_save is empty; pass to_save={{'model': model}}"
            )
        if self.resume is not None:
            raise RuntimeError(
                f"{type(self).__name__} has resume='auto' but was added with add_event_handler(), so it has not resumed; call "
                "its method attach(engine, event) or engine.attach(...)"
            )
        check_rank(self.save_on_rank)

    def _content(self, plan: Plan, is_alone: bool) -> Any:
        """Return the content of a checkpoint, on all ranks."""
        keeps_shards = is_collective(self._books.store)
        if keeps_shards and is_alone and world_size() > 1:
            raise RuntimeError(
                f"{type(self.save_handler).__name__} saves on all ranks, which is impossible after an exception on one rank; do not "
                "attach it to EXCEPTION_RAISED"
            )
        self._books.pending = (plan.saved,)
        try:
            more = {"checkpointer": self.state_dict()} if self.include_self else {}
            return content_of(
                self.to_save, more, self.save_on_rank, is_alone=is_alone, keeps_shards=keeps_shards
            )
        finally:
            self._books.pending = ()

    # Names

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
        return default_score_function(metric_name, score_sign)

    # Loading

    load_objects = staticmethod(load_objects)

    def reload_objects(
        self,
        to_load: Mapping[str, Any],
        load_kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        score: float | None = None,
        global_step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        """Load a checkpoint that this handler saved, identified by the parts of its file name.

        Args:
            to_load: Objects, as for :meth:`load_objects`.
            load_kwargs: Arguments of ``torch.nn.Module.load_state_dict``.
            name: Name in the file name. The default is the key of a single object, or ``"checkpoint"`` for several objects.
            score: Score of the checkpoint, with at least as many decimal places as in the file name.
            global_step: Step in the file name.
            epoch: Epoch in the file name, if the pattern contains it beside the step.

        Raises:
            TypeError: If the save handler is a function, because a function cannot load checkpoints.
            FileNotFoundError: If a DiskSaver does not find the file. Other save handlers raise their own exceptions.
        """
        name = self._name(to_load) if name is None else name
        filename = self._naming.filename(name, step=global_step, epoch=epoch, score=score)
        load_into(to_load, load_from(self._books.store, filename), load_kwargs or {})

    def restore(
        self,
        to_load: Mapping[str, Any] | None = None,
        which: Literal["latest", "best"] = "latest",
        *,
        by: str | None = None,
        load_kwargs: Mapping[str, Any] | None = None,
    ) -> Path | str:
        """Load the latest or best checkpoint with this handler's ``filename_prefix``.

        A damaged checkpoint is skipped with a warning that names it, and the next one is loaded. With several ranks, rank 0
        chooses the checkpoint and all ranks load it.

        Args:
            to_load: Objects to load; by default the objects to save.
            which: ``"latest"`` for the highest step, ``"best"`` for the best score.
            by: Name of the score, if the checkpoints have several.
            load_kwargs: Arguments of ``torch.nn.Module.load_state_dict``.

        Returns:
            The location of the checkpoint.

        Raises:
            FileNotFoundError: If there is no checkpoint.
            ValueError: If the checkpoint lacks an object, or if ``which`` is unknown.
        """
        location = self._restore(self.to_save if to_load is None else to_load, which, by, load_kwargs or {})
        if location is None:
            raise FileNotFoundError(
                f"{type(self).__name__} found no {which} checkpoint with filename_prefix={self.filename_prefix!r}; "
                "resume='auto' starts a new run in this case"
            )
        return location

    def _restore(
        self, to_load: Mapping[str, Any], which: str, by: str | None, load_kwargs: Mapping[str, Any]
    ) -> Path | str | None:
        self._saves.finish()
        store = self._books.store
        found = find_and_load(store, self.filename_prefix, which, by, self._naming.ext)
        if found is None:
            return None
        filename, loaded = found
        load_into(to_load, loaded, load_kwargs)
        location = store.locate(filename)
        if loaded.metadata is not None:
            self._books.adopt(int(loaded.metadata.get("iteration", 0)))
            if loaded.metadata.get("is_finite") is False:
                warnings.warn(
                    f"the weights in checkpoint {str(location)!r} contain NaN or infinity; to continue from finite weights, remove "
                    "this file",
                    GlowplugWarning,
                    stacklevel=4,
                )
        return location

    # Arguments

    def _checked(self, to_save: object) -> Objects:
        objects = to_save if isinstance(to_save, Objects) else Objects(to_save)
        if self.include_self and "checkpointer" in objects.names:
            raise ValueError(
                "with include_self=True, the key 'checkpointer' of to_save is reserved for the state of the checkpoint handler; "
                "rename the key"
            )
        return objects

    def _locate(self, saved: Saved | None) -> Path | str | None:
        return None if saved is None else self._books.store.locate(saved.filename)
