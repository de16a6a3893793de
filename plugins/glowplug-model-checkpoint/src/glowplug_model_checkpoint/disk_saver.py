"""DiskSaver: checkpoints as files of one folder."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from glowplug.distributed import rank
from glowplug_model_checkpoint.filenames import check_filename, has_prefix
from glowplug_model_checkpoint.objects import read
from glowplug_model_checkpoint.options import check_options
from glowplug_model_checkpoint.save_handler import BaseSaveHandler
from glowplug_model_checkpoint.temporaries import create, is_temporary, publish, sweep, sync_directory

__all__ = ["DiskSaver"]


class DiskSaver(BaseSaveHandler):
    """Writes checkpoints into a folder, each complete or not there at all.

    A file is written under a temporary name in the same folder, brought to the disk, given its name in one step, and the
    name brought to the disk, before the call returns. What a killed process left under such names is swept when the next
    DiskSaver of the folder is made; files that another process is writing at that time are left alone.

    Args:
        dirname: the folder; ``~`` is expanded.
        atomic: write as described; ``False`` writes under the final name at once, so that a crash leaves a torn file.
        create_dir: create the folder, and those above it.
        require_empty: refuse a folder that holds checkpoints already (``*.pt``), so that two runs do not mix.
        save_on_rank: the rank that writes and removes; on others nothing happens.
        filename_prefix: ``require_empty`` looks only at checkpoints with this prefix.
        **kwargs: for ``torch.save``.

    Raises:
        ValueError: the folder does not exist, or is not empty.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> saver = DiskSaver(folder.name)
        >>> saver.save({"weight": torch.ones(2)}, "model_1.pt")
        >>> saver.list(), saver.load("model_1.pt")
        (['model_1.pt'], {'weight': tensor([1., 1.])})
        >>> saver.remove("model_1.pt")
        >>> folder.cleanup()
    """

    def __init__(
        self,
        dirname: str | Path,
        atomic: bool = True,
        create_dir: bool = True,
        require_empty: bool = True,
        save_on_rank: int = 0,
        *,
        filename_prefix: str = "",
        **kwargs: Any,
    ) -> None:
        check_options(type(self), kwargs)
        self.dirname = Path(dirname).expanduser()
        self.atomic = atomic
        self.save_on_rank = save_on_rank
        self.kwargs = kwargs
        if rank() == save_on_rank:
            self._prepare(create_dir, filename_prefix if require_empty else None)

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint and return when it would survive a power failure.

        Args:
            checkpoint: anything that ``torch.load(weights_only=True)`` loads.
            filename: a plain name; a file that has it is replaced.
            metadata: not used.

        Raises:
            ValueError: ``filename`` leads out of the folder, or the checkpoint could not be loaded again.
            OSError: no space, no permission...; all other files are as they were.
        """
        path = self.locate(filename)
        if rank() != self.save_on_rank:
            return
        leftovers = [] if path.exists() else [path]
        file = create(self.dirname) if self.atomic else path.open("wb")
        try:
            with file:
                self._write(checkpoint, file, filename)
                if self.atomic:
                    publish(file, path)
            sync_directory(self.dirname)
        except BaseException as error:
            for leftover in (Path(file.name), *leftovers):
                with suppress(OSError):
                    leftover.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)
            raise

    def remove(self, filename: str) -> None:
        """Remove a checkpoint; one that is gone already is no error."""
        path = self.locate(filename)
        if rank() == self.save_on_rank:
            path.unlink(missing_ok=True)

    def __call__(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint, as :meth:`save` does; ignite's name for it."""
        self.save(checkpoint, filename, metadata)

    def load(self, filename: str) -> Any:
        """Return the content of a checkpoint, on the CPU; no code in the file can run.

        Args:
            filename: The name it was saved under.

        Raises:
            FileNotFoundError: There is no such checkpoint.
            pickle.UnpicklingError: The file holds more than tensors and plain values.
        """
        return read(self.locate(filename))

    def list(self) -> Sequence[str]:
        """Return the names of the files in the folder, oldest first, without incomplete ones."""
        written = []
        with suppress(FileNotFoundError):
            for path in self.dirname.iterdir():
                # Another process may remove a file at any time.
                with suppress(FileNotFoundError):
                    if path.is_file() and not is_temporary(path.name):
                        written.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(written)]

    def locate(self, filename: str) -> Path:
        """Return the path of a checkpoint.

        Raises:
            ValueError: the name leads out of the folder, or is one of the temporary names.
        """
        if is_temporary(check_filename(filename)):
            raise ValueError(f"{filename!r} is a name for files that are being written; choose another one")
        return self.dirname / filename

    def _prepare(self, create_dir: bool, empty_of: str | None) -> None:
        if create_dir:
            self.dirname.mkdir(parents=True, exist_ok=True)
        if not self.dirname.is_dir():
            raise ValueError(f"there is no folder {str(self.dirname)!r}; create it, or set create_dir=True")
        sweep(self.dirname)
        if empty_of is None:
            return
        found = sorted(path.name for path in self.dirname.iterdir() if has_prefix(path.name, empty_of))
        if found:
            raise ValueError(
                f"{str(self.dirname)!r} holds checkpoints already: {', '.join(found[:3])}"
                f"{', ...' if len(found) > 3 else ''}. Give another folder or filename_prefix, or set "  # noqa: PLR2004 - as many as are shown
                "require_empty=False to add to them, as a run that resumes does"
            )

    def _write(self, checkpoint: Any, file: BinaryIO, filename: str) -> None:
        try:
            torch.save(checkpoint, file, **self.kwargs)
        except RuntimeError as error:  # how torch reports a write that failed, without the reason
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())
        _check_loadable(file.name, filename)


def _check_loadable(path: str, filename: str) -> None:
    """Refuse what would only be noticed at resume: a file that loading refuses because it could run code."""
    if not zipfile.is_zipfile(path):  # torch's older format, which cannot be looked into
        return
    refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if refused:
        raise ValueError(
            f"{filename!r} could not be loaded again: torch.load(weights_only=True) refuses {', '.join(sorted(refused))}. "
            "Make state_dict() return tensors and plain Python values (numpy scalars: value.item()), or allow the types "
            "with torch.serialization.add_safe_globals([...])"
        )
