"""ModelCheckpoint: the checkpoint that writes into a folder."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glowplug import Events, RemovableEventHandle
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol, SaveHandler
from glowplug_model_checkpoint.checkpoint import AnyEvent, Checkpoint, ScoreFunction
from glowplug_model_checkpoint.disk_saver import DiskSaver
from glowplug_model_checkpoint.filenames import EXTENSION, check_part, has_prefix
from glowplug_model_checkpoint.options import check_options
from glowplug_model_checkpoint.save_handler import handler_at, is_address

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Checkpoint):
    """Saves objects into a folder, and keeps the ``n_saved`` best or latest.

    The objects are given here, or where it is attached; in all else it is a :class:`Checkpoint`.

    Args:
        dirname: the folder, in which ``~`` is expanded; or an address such as ``"s3://bucket/run"``, for what an
            installed plugin has for it, to which ``atomic``, ``require_empty`` and ``create_dir`` do not apply.
        filename_prefix: as for :class:`Checkpoint`, like all arguments that are not explained here.
        score_function: ``f(engine) -> number``; higher is better.
        score_name: a name for the score; alone, the metric that is the score.
        n_saved: how many are kept; ``None``: all.
        atomic: as for :class:`DiskSaver`, like the next two.
        require_empty: refuse a folder that holds checkpoints with this prefix already. A run that resumes sets it to
            ``False``, and takes over what the earlier run kept with ``trainer.load_state_dict``.
        create_dir: create the folder.
        global_step_transform: ``f(engine, event) -> int``.
        filename_pattern: other file names.
        include_self: put the state of this handler into the checkpoint too.
        greater_or_equal: of equal scores keep the latest.
        save_on_rank: the rank that writes.
        to_save: names and objects with ``state_dict()``.
        state_key: Key of this handler's state in ``engine.state_dict()``. Defaults to the class name with the prefix or
            the name of the score, such as ``"ModelCheckpoint:best"``.
        **kwargs: for ``torch.save``.

    Raises:
        TypeError: as for :class:`Checkpoint`; and arguments for ``torch.save`` with an address.
        ValueError: as for :class:`Checkpoint`, and as for :class:`DiskSaver`.
        ImportError: an address that no installed plugin knows.

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
        ('latest_checkpoint_9.pt', 'best_model_-1.pt')

        A script that goes on where it was stopped:

        >>> newest = ModelCheckpoint.latest(folder.name, "latest")
        >>> ModelCheckpoint.load_objects({"model": model, "trainer": trainer}, newest)
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
        **kwargs: Any,
    ) -> None:
        check_options(type(self), kwargs)
        leads = filename_pattern is None or filename_pattern.startswith("{filename_prefix}_")
        if is_address(dirname) and kwargs:
            raise TypeError(
                f"{', '.join(kwargs)} would be given to torch.save, which writes into a folder; the plugin that answers "
                f"for {dirname!r} writes in its own way. Leave it out"
            )
        folder = (
            None
            if is_address(dirname)
            else DiskSaver(
                dirname,
                atomic=atomic,
                create_dir=create_dir,
                require_empty=require_empty,
                save_on_rank=save_on_rank,
                filename_prefix=check_part("filename_prefix", filename_prefix) if leads else "",
                **kwargs,
            )
        )
        super().__init__(
            {} if to_save is None else to_save,
            folder or dirname,
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
        )
        if to_save is None:
            # An engine reads it, and so refuses to register this handler without the objects.
            self.__signature__ = inspect.signature(_with_objects)

    def __call__(self, engine: EngineProtocol, *given: Any, to_save: Mapping[str, Any] | None = None) -> None:
        """Save, if it is one of the best, and remove what is not any more.

        Args:
            engine: the engine at whose event this is.
            *given: the exception on ``EXCEPTION_RAISED``, and the objects, which replace those of before.
            to_save: the objects by keyword.

        Raises:
            TypeError: objects of the wrong kind, or given by keyword on ``EXCEPTION_RAISED``, where no engine comes with
                them.
            RuntimeError: no objects; and as for :class:`Checkpoint`.
        """
        if isinstance(engine, BaseException):
            raise TypeError(
                f"on EXCEPTION_RAISED give the objects of {type(self).__name__} as a plain argument, not by keyword: "
                "add_event_handler(event, handler, {'model': model})"
            )
        exception = None
        for value in (*given, to_save):
            if isinstance(value, BaseException):
                exception = value
            elif value is not None:
                self.to_save = self._checked(value)
        super().__call__(engine, exception)

    def attach(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent = Events.EPOCH_COMPLETED,
        to_save: Mapping[str, Any] | None = None,
    ) -> RemovableEventHandle:
        """Save at an event, after metrics, other handlers and loggers.

        Args:
            engine: its counters and metrics decide; ``SAVED_CHECKPOINT`` is fired on it.
            event_name: When to save; join several events with ``|``.
            to_save: the objects, unless they were given before.

        Returns:
            A handle that detaches it.

        Raises:
            ValueError: There are no objects to save.
        """
        if to_save is None and not self.to_save:
            raise ValueError(
                f"{type(self).__name__} has nothing to save: give to_save={{'model': model}} here or where it is made"
            )
        return self._attach(engine, event_name, *(() if to_save is None else (self._checked(to_save),)))

    @staticmethod
    def latest(
        dirname: str | Path | SaveHandler, prefix: str = "", ext: str = EXTENSION
    ) -> Path | str | None:
        """Return the newest checkpoint that can be loaded, or ``None``; for scripts that resume.

        Newest is what was written last. A file that cannot be loaded is passed over with a warning. A ``trainer`` inside
        of the checkpoint also carries what the earlier run kept, once its ModelCheckpoint (with
        ``require_empty=False``) is attached again.

        Args:
            dirname: A folder, in which ``~`` is expanded, an address, or a save handler. A folder that does not exist
                has no checkpoints.
            prefix: look only at checkpoints with this ``filename_prefix``.
            ext: the extension of the files.

        Returns:
            What the save handler's ``locate`` returns: a path, or an address. :meth:`load_objects` takes either.

        Example:
            >>> ModelCheckpoint.latest("no/such/folder") is None
            True
        """
        store = _store_at(dirname)
        if store is None:
            return None
        for name in reversed(store.list()):
            if not has_prefix(name, prefix, ext):
                continue
            location = store.locate(name)
            try:
                store.load(name)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the newest, the next one may do
                warnings.warn(
                    f"skipping the checkpoint {str(location)!r}, which cannot be loaded: {error}",
                    GlowplugWarning,
                    stacklevel=2,
                )
            else:
                return location
        return None


def _store_at(location: Any) -> SaveHandler | None:
    """Return the save handler of a folder, address or handler; ``None`` for a folder that does not exist."""
    if isinstance(location, SaveHandler):
        return location
    if is_address(location):
        return handler_at(location)
    folder = Path(location).expanduser()
    return DiskSaver(folder, create_dir=False, require_empty=False) if folder.is_dir() else None


def _with_objects(engine: Any, to_save: Any, more: Any = None) -> None:
    """What the engine has to give a ModelCheckpoint without objects; ``more`` where an exception comes first."""
