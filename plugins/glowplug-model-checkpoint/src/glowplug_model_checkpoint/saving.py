"""Saves: write a checkpoint, then record and announce it, and only then remove the checkpoints that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from glowplug import EventEnum, Events, RemovableEventHandle, RunOutcome
from glowplug.distributed import rank, world_size
from glowplug.typing import EngineProtocol, SaveHandler
from glowplug_model_checkpoint.addresses import is_address
from glowplug_model_checkpoint.bookkeeping import Bookkeeping
from glowplug_model_checkpoint.disk_saver import save_method
from glowplug_model_checkpoint.failures import FailedSaves
from glowplug_model_checkpoint.locations import is_collective
from glowplug_model_checkpoint.planning import Plan, outermost
from glowplug_model_checkpoint.ranks import alone, together
from glowplug_model_checkpoint.saved import Saved
from glowplug_model_checkpoint.staging import Stager

if TYPE_CHECKING:
    from glowplug.loggers import Logger

__all__ = ["Order", "Saves", "loggers_from"]


class Order(NamedTuple):
    """What to save.

    Args:
        engine: Engine on which the event fires afterwards.
        plan: The decision of rank 0.
        content: Function that returns the content of the checkpoint; all ranks call it, unless ``is_alone`` is true.
        metadata: Description of the checkpoint.
        is_alone: Whether only this rank saves, because the run has failed on it.
    """

    engine: EngineProtocol
    plan: Plan
    content: Callable[[], Any]
    metadata: Mapping[str, Any]
    is_alone: bool = False


class _InFlight(NamedTuple):
    """A save that continues in the background; ``future`` is ``None`` on ranks that do not write."""

    order: Order
    future: Future[None] | None
    handle: RemovableEventHandle


class Saves:
    """Carries out the saves of a handler, at once or in the background.

    At most one save is in the background. It is completed on the thread of the training: at the first iteration after it is
    durable, before the next save, and at the latest when the run ends or is interrupted. With several ranks, it is completed at
    the end of the epoch instead of the iteration, since all ranks have to take part.

    Args:
        books: The checkpoints that exist.
        failures: The failed saves.
        event: Event that fires after each save.
        save_on_rank: Rank that writes the checkpoints.
        raises: Whether the exception of a failed save is raised; otherwise it is reported.
        loggers: Loggers that get each checkpoint as an artifact.
    """

    def __init__(
        self,
        books: Bookkeeping,
        failures: FailedSaves,
        event: EventEnum,
        save_on_rank: int,
        *,
        raises: bool,
        loggers: Sequence[Logger] = (),
    ) -> None:
        self._books = books
        self._failures = failures
        self._event = event
        self._save_on_rank = save_on_rank
        self._raises = raises
        self._loggers = loggers
        self._stager = Stager(books.store)
        self._in_flight: _InFlight | None = None

    def save(self, order: Order) -> bool:
        """Save a checkpoint at once, and return whether it was saved."""

        def write() -> None:
            content = order.content()
            # The checkpoint of all ranks exists only if all ranks succeed.
            is_collective_save = is_collective(self._books.store)
            if self._is_writer or is_collective_save:
                save_method(self._books.store)(content, order.plan.saved.filename, order.metadata)
            if self._is_writer and not is_collective_save:
                self._note(order)

        self._begin(order)
        return self._complete(order, write)

    def start(self, order: Order) -> bool:
        """Copy a checkpoint and save the copy in the background; return ``False`` if it could not be copied."""
        commits: list[Callable[[], None]] = []

        def stage() -> None:
            content = order.content()
            if self._is_writer:
                commits.append(self._stager.stage(content, order.plan.saved.filename, order.metadata))

        self._begin(order)
        problem = self._problem_of(lambda: together(stage))
        if problem is not None:
            self._failures.add(order.plan.saved.filename, problem)
            return False
        trainer = outermost(order.engine)
        boundary = Events.ITERATION_COMPLETED if world_size() == 1 else Events.EPOCH_COMPLETED
        handle = RemovableEventHandle.join(
            trainer.add_event_handler(boundary, self._finish_if_done),
            trainer.add_event_handler(Events.TEARDOWN | Events.INTERRUPT, self._finish_at_end),
        )
        self._in_flight = _InFlight(order, _in_background(commits[0]) if commits else None, handle)
        return True

    def finish(self, *, is_alone: bool = False) -> None:
        """Wait for the save in the background, if there is one, and complete it.

        Args:
            is_alone: Whether only this rank calls the method, because the run has failed on it.

        Raises:
            Exception: If the save failed, unless failures are reported.
        """
        if self._in_flight is None:
            return
        (order, future, handle), self._in_flight = self._in_flight, None
        handle.remove()

        def wait() -> None:
            if future is not None:
                future.result()
                self._note(order)

        self._complete(order._replace(is_alone=is_alone), wait)

    @property
    def _is_writer(self) -> bool:
        return rank() == self._save_on_rank

    def _begin(self, order: Order) -> None:
        if not self._raises:
            self._failures.begin(outermost(order.engine))

    def _note(self, order: Order) -> None:
        # Even if another rank fails, the file exists and has to be removed some time.
        self._books.record(order.plan.saved)

    def _finish_if_done(self) -> None:
        flight = self._in_flight
        if flight is not None and (world_size() > 1 or flight.future is None or flight.future.done()):
            self.finish()

    def _finish_at_end(self, trainer: EngineProtocol) -> None:
        # After an exception, other ranks may still be training.
        self.finish(is_alone=trainer.state.outcome is RunOutcome.FAILED)

    def _complete(self, order: Order, write: Callable[[], None]) -> bool:
        """Write a checkpoint, record it, remove those that it replaces, and announce it."""
        run = alone if order.is_alone else together
        plan = order.plan
        problem = self._problem_of(lambda: run(write))
        if problem is not None:
            self._failures.add(plan.saved.filename, problem)
            return False
        self._books.record(plan.saved)
        location = self._books.store.locate(plan.saved.filename)
        self._failures.succeed(location)
        for logger in self._loggers:
            logger.log_artifact(location)
        # From here on, at least one checkpoint can be loaded at any time.
        if plan.removed:
            problem = self._problem_of(lambda: run(lambda: self._remove(plan.removed)))
            if problem is not None:
                self._failures.warn_of_removal(problem)
        order.engine.fire_event(self._event)
        return True

    def _remove(self, removed: tuple[Saved, ...]) -> None:
        # The user may have reset the handler meanwhile, which keeps the files.
        for saved in (each for each in removed if each in self._books.items):
            if self._is_writer:
                self._books.remove(saved)
            else:
                self._books.forget(saved)

    def _problem_of(self, function: Callable[[], object]) -> Exception | None:
        """Call a function and return its exception, unless exceptions are raised."""
        if self._raises:
            function()
            return None
        try:
            function()
        except Exception as error:  # noqa: BLE001 - each save handler has its own errors
            return error
        return None


def loggers_from(also_to: object, store: SaveHandler) -> tuple[Logger, ...]:
    """Return the loggers that get each checkpoint as an artifact.

    Args:
        also_to: A logger or several.
        store: The save handler.

    Raises:
        TypeError: If one of the loggers stores no artifacts.
        ValueError: If the save handler writes to an address, because loggers read artifacts from files.
    """
    is_several = isinstance(also_to, Sequence) and not isinstance(also_to, str)
    loggers: Any = also_to if is_several else (also_to,)
    for logger in loggers:
        takes = getattr(logger, "takes", None)
        if not (callable(takes) and takes("log_artifact")):
            raise TypeError(
                f"also_to needs loggers that store artifacts, such as MLflowLogger; got {logger!r}"
            )
    if loggers and is_address(location := store.locate("checkpoint")):
        raise ValueError(f"also_to needs checkpoints in a folder, but they are saved to {location!r}")
    return tuple(loggers)


def _in_background(function: Callable[[], None]) -> Future[None]:
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="glowplug-checkpoint")
    try:
        return executor.submit(function)
    finally:
        # The thread ends after the save. The interpreter waits for the thread before it exits.
        executor.shutdown(wait=False)
