"""Checkpoint handler that writes to a folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glowplug import Events, RemovableEventHandle
from glowplug.typing import EngineProtocol, SaveHandler
from glowplug_model_checkpoint.addresses import is_address, without_secrets
from glowplug_model_checkpoint.checkpoint import AnyEvent, Checkpoint
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest
from glowplug_model_checkpoint.disk_saver import DiskSaver
from glowplug_model_checkpoint.filenames import check_part
from glowplug_model_checkpoint.locations import extension_of, saver_at, store_at
from glowplug_model_checkpoint.options import check_options
from glowplug_model_checkpoint.policies import Policy, ScoreFunction
from glowplug_model_checkpoint.restoring import find

if TYPE_CHECKING:
    from glowplug.loggers import Logger

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Checkpoint):
    """Save objects to a folder, and keep the best or latest checkpoints.

    A ModelCheckpoint is a :class:`Checkpoint` that also accepts the options of :class:`DiskSaver`. The constructor and
    ``attach`` both accept the objects to save.

    Args:
        dirname: Folder, or an address that a plugin handles, such as ``"s3://bucket/run"``. In the path of a folder, ``~`` is
            expanded. If ``dirname`` is an address, ``atomic`` and ``create_dir`` have no effect; ``digest`` and ``read_back`` have one
            if fsspec has a driver for the address (:class:`FsspecSaver`).
        filename_prefix: First part of each file name.
        score_function: Function ``f(engine) -> number`` that returns the score; a higher score is better.
        score_name: Name of the score in file names. Without ``score_function``, the metric with this name is the score.
        n_saved: Number of checkpoints to keep; ``None`` keeps all.
        atomic: Write to a temporary file, then rename it. ``False`` writes directly to the final file, so a crash may leave an
            incomplete file.
        require_empty: Refuse a folder or address that already contains checkpoints with this ``filename_prefix``. To resume a run,
            pass ``False``; ``trainer.load_state_dict`` then restores the list of earlier checkpoints.
        create_dir: Create the folder and its parents if they do not exist.
        global_step_transform: Function ``f(engine, event) -> int`` that returns the step for the file name. By default, the step
            is the engine's iteration.
        filename_pattern: Pattern of file names, as for :class:`Checkpoint`.
        include_self: Also save the state of this handler, under the key ``"checkpointer"`` of the checkpoint.
        greater_or_equal: Of several checkpoints with equal scores, keep the latest instead of the first.
        save_on_rank: Rank that writes the checkpoints.
        to_save: Mapping of names to objects with ``state_dict()``.
        state_key: Key of this handler's state in ``engine.state_dict()``. By default, the key consists of the class name and
            ``filename_prefix``, for example ``"ModelCheckpoint:best"``. Without a prefix, ``score_name`` is used instead.
        keep: Which checkpoints to keep, such as ``KeepBest(2, by="accuracy") | KeepLast(1)``, instead of ``n_saved``,
            ``score_function``, ``score_name`` and ``greater_or_equal``.
        on_error: ``"raise"``, or ``"warn"`` to continue the run after a failed save, as for :class:`Checkpoint`.
        check_finite: Whether to look for NaN and infinity in the parameters of the models, so that the last checkpoint with finite
            weights is never removed.
        resume: ``"auto"`` loads the latest checkpoint with this prefix, if there is one, when the handler is attached;
            ``resumed_from`` is then its location. ``require_empty`` has no effect in this case.
        async_save: Whether to write checkpoints in the background, as for :class:`Checkpoint`.
        also_to: One or more loggers that store each saved checkpoint as an artifact.
        digest: Kind of the digest in the files: ``"xxh3_128"``, or ``"sha256"``, which is slower.
        read_back: Read each file again before it gets its final name, and raise if it differs from what was written.
        **kwargs: Arguments of ``torch.save``.

    Raises:
        TypeError: If an argument has the wrong type, or if arguments of ``torch.save`` are combined with an address.
        ValueError: If :class:`Checkpoint` or :class:`DiskSaver` refuses an argument.
        ImportError: If no installed plugin handles the address.

    Example:
        >>> import tempfile
        >>> from glowplug import Engine, Events
        >>> from torch import nn
        >>> folder = tempfile.TemporaryDirectory()
        >>> model = nn.Linear(2, 1)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> latest = ModelCheckpoint(folder.name, "latest", to_save={"model": model, "trainer": trainer})
        >>> handle = trainer.attach(latest)
        >>> best = ModelCheckpoint(folder.name, "best", score_function=lambda engine: -engine.state.epoch)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, best, {"model": model})
        >>> state = trainer.run([1, 2, 3], max_epochs=3)
        >>> latest.last_checkpoint.name, best.best_checkpoint.name
        ('latest_checkpoint_9.pt', 'best_model_1_-1.pt')

        Continue from the latest checkpoint in a later process, or start if there is none:

        >>> trainer = Engine(lambda engine, batch: None)
        >>> to_save = {"model": model, "trainer": trainer}
        >>> latest = ModelCheckpoint(folder.name, "latest", resume="auto", to_save=to_save)
        >>> handle = trainer.attach(latest)
        >>> latest.resumed_from.name, trainer.state.epoch
        ('latest_checkpoint_9.pt', 3)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        dirname: str | Path,
        filename_prefix: str = "",
        score_function: ScoreFunction | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        atomic: bool = True,
        require_empty: bool = True,
        create_dir: bool = True,
        global_step_transform: Callable[[Any, Any], Any] | None = None,
        filename_pattern: str | None = None,
        include_self: bool = False,
        greater_or_equal: bool = False,
        save_on_rank: int = 0,
        *,
        to_save: Mapping[str, Any] | None = None,
        state_key: str | None = None,
        keep: Policy | None = None,
        on_error: Literal["raise", "warn"] = "raise",
        check_finite: bool = True,
        resume: Literal["auto"] | None = None,
        async_save: bool = False,
        also_to: Logger | Sequence[Logger] = (),
        digest: Digest = DEFAULT_DIGEST,
        read_back: bool = False,
        **kwargs: Any,
    ) -> None:
        check_options(type(self), kwargs)
        check_part("filename_prefix", filename_prefix)
        is_prefix_first = filename_pattern is None or filename_pattern.startswith("{filename_prefix}_")
        save_handler = _save_handler(
            dirname,
            kwargs,
            atomic=atomic,
            create_dir=create_dir,
            require_empty=require_empty and resume is None,
            save_on_rank=save_on_rank,
            filename_prefix=filename_prefix if is_prefix_first else "",
            digest=digest,
            read_back=read_back,
        )
        super().__init__(
            {} if to_save is None else to_save,
            save_handler,
            filename_prefix=filename_prefix,
            score_function=score_function,
            score_name=score_name,
            n_saved=n_saved,
            global_step_transform=global_step_transform,
            filename_pattern=filename_pattern,
            include_self=include_self,
            greater_or_equal=greater_or_equal,
            save_on_rank=save_on_rank,
            state_key=state_key,
            keep=keep,
            on_error=on_error,
            check_finite=check_finite,
            resume=resume,
            async_save=async_save,
            also_to=also_to,
        )
        if to_save is None:
            # With this signature, the engine refuses to register the handler if no objects are passed.
            self.__signature__ = inspect.signature(_with_objects)

    def __call__(self, engine: EngineProtocol, *given: Any, to_save: Mapping[str, Any] | None = None) -> None:
        """Save a checkpoint if its priority is high enough, then remove surplus checkpoints.

        Args:
            engine: Engine that fires the event.
            *given: Objects to save; they replace the objects that were passed earlier. At ``EXCEPTION_RAISED``, the engine
                passes the exception first, followed by the objects.
            to_save: Objects to save, passed as a keyword argument.

        Raises:
            TypeError: If an object has no ``state_dict()``.
            RuntimeError: If there are no objects to save, or if another rank failed while saving.
        """
        exception = None
        for value in (*given, to_save):
            if isinstance(value, BaseException):
                exception = value
            elif value is not None:
                self._objects = self._checked(value)
        super().__call__(engine, exception)

    def attach(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent = Events.EPOCH_COMPLETED,
        to_save: Mapping[str, Any] | None = None,
    ) -> RemovableEventHandle:
        """Save a checkpoint at an event, after metrics, other handlers and loggers have run.

        Args:
            engine: Engine that provides the step and metrics, and that fires ``SAVED_CHECKPOINT``.
            event_name: Event at which to save; join several events with ``|``.
            to_save: Objects to save; they replace the objects passed to the constructor.

        Returns:
            A handle that detaches this handler.

        Raises:
            ValueError: If there are no objects to save.
        """
        if to_save is None and not self._objects.names:
            raise ValueError(
                f"{type(self).__name__} has nothing to save; pass to_save={{'model': model}} to attach() or the constructor"
            )
        if to_save is not None:
            self._objects = self._checked(to_save)
        handle = self._attach(engine, event_name, *(() if to_save is None else (self._objects,)))
        self._resume()
        return handle

    @staticmethod
    def latest(
        location: str | Path | SaveHandler, filename_prefix: str = "", *, ext: str | None = None
    ) -> Path | str | None:
        """Return the location of the checkpoint with the highest step.

        The step is read from the manifest of each checkpoint, so copies and other files in the folder do not matter. The checkpoint
        is compared with its digest; damaged checkpoints are skipped with a warning. A run may save in the same folder meanwhile.

        Args:
            location: Folder, address, or save handler. In the path of a folder, ``~`` is expanded. If the folder does not exist,
                the result is ``None``.
            filename_prefix: Consider only checkpoints with exactly this prefix.
            ext: Extension of the files, without the dot. The default is the extension of the save handler, ``"pt"`` for a folder.

        Returns:
            A path or an address for ``load_objects()``, or ``None`` if there is no checkpoint.

        Raises:
            Exception: If the location cannot be listed; the type depends on the save handler.

        Example:
            >>> ModelCheckpoint.latest("no/such/folder") is None
            True
        """
        return _found(location, filename_prefix, "latest", None, ext)

    @staticmethod
    def best(
        location: str | Path | SaveHandler,
        filename_prefix: str = "",
        *,
        by: str | None = None,
        ext: str | None = None,
    ) -> Path | str | None:
        """Return the location of the checkpoint with the best score; otherwise as :meth:`latest`.

        Args:
            location: Folder, address, or save handler.
            filename_prefix: Consider only checkpoints with exactly this prefix.
            by: Name of the score; needed only if the checkpoints have several.
            ext: Extension of the files, without the dot. The default is the extension of the save handler, ``"pt"`` for a folder.

        Returns:
            A path or an address for ``load_objects()``, or ``None`` if no checkpoint has a score.

        Raises:
            ValueError: If the checkpoints have several scores and ``by`` is missing, or if none has the score ``by``.
            TypeError: If the save handler does not store scores.
            Exception: If the location cannot be listed; the type depends on the save handler.

        Example:
            >>> ModelCheckpoint.best("no/such/folder") is None
            True
        """
        return _found(location, filename_prefix, "best", by, ext)


def _found(
    location: str | Path | SaveHandler, filename_prefix: str, which: str, by: str | None, ext: str | None
) -> Path | str | None:
    store = store_at(location)
    if store is None:
        return None
    filename = find(store, filename_prefix, which, by, ext or extension_of(store))
    return None if filename is None else store.locate(filename)


def _save_handler(
    dirname: str | Path,
    torch_options: Mapping[str, Any],
    *,
    atomic: bool,
    create_dir: bool,
    **options: Any,
) -> SaveHandler:
    """Return the save handler for a folder or an address."""
    if not is_address(dirname):
        return DiskSaver(dirname, atomic=atomic, create_dir=create_dir, **options, **torch_options)
    address = str(dirname)
    if torch_options:
        raise TypeError(
            f"torch.save options are only supported for folders, not for the address {without_secrets(address)!r}; remove "
            f"{', '.join(torch_options)}"
        )
    return saver_at(address, **options)


def _with_objects(engine: Any, to_save: Any, more: Any = None) -> None:
    """Define the signature of a ModelCheckpoint that was created without objects to save.

    At ``EXCEPTION_RAISED``, ``to_save`` receives the exception and ``more`` receives the objects.
    """
