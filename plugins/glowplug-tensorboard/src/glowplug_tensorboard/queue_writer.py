"""``SummaryWriter`` that sends its records through the queue of a logger."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import summary
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

if TYPE_CHECKING:
    from torch import nn

    from glowplug_tensorboard.logger import TensorboardLogger

__all__ = ["QueueWriter"]


class QueueWriter(SummaryWriter):
    """A ``SummaryWriter`` whose records pass through the queue of a :class:`TensorboardLogger`.

    Scalars, histograms, texts and images are logged with the ``log_*`` methods of the logger and follow the rules of these
    methods. For example, a histogram has 256 bins of equal width, and integers in an image range from 0 to 255. All other
    methods, such as ``add_pr_curve``, create their events on the calling thread.

    Args:
        logger: The logger.
        folder: Folder of the event files.
    """

    # The base class assigns None to this attribute, so type checkers infer None as its type.
    file_writer: FileWriter | None  # type: ignore[assignment]

    def __init__(self, logger: TensorboardLogger, folder: str) -> None:
        self._logger = logger
        super().__init__(
            folder,
            logger.comment,
            logger.purge_step,
            logger.max_queue,
            logger.flush_secs,
            logger.filename_suffix,
        )

    def _get_file_writer(self) -> FileWriter:
        """Return the file writer; create it if necessary.

        This method overrides the method in which SummaryWriter creates its file.
        """
        if self.file_writer is None:
            self.file_writer = _QueuedEvents(self._logger, self.log_dir)
        return self.file_writer

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Log a number; ``new_style`` and ``double_precision`` have no effect."""
        self._logger.log_scalars({tag: scalar_value}, _step(global_step), walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Log numbers that share a chart; each number gets a separate run in the folder ``<main_tag>_<tag>``."""
        for tag, value in tag_scalar_dict.items():
            events = self._events_in(f"{main_tag.replace('/', '_')}_{tag}")
            events.add_summary(summary.scalar(main_tag, value), global_step, walltime)  # type: ignore[no-untyped-call]

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: str = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Log the distribution of values; ``bins`` and ``max_bins`` have no effect."""
        self._logger.log_histogram(tag, values, _step(global_step), walltime)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Log a text."""
        self._logger.log_text(tag, text_string, _step(global_step), walltime)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Log an image."""
        self._logger.log_image(tag, _channels_first(img_tensor, dataformats), _step(global_step), walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Log a batch of images."""
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_graph(
        self,
        model: nn.Module,
        input_to_model: Any = None,
        verbose: bool = False,
        use_strict_trace: bool = True,
    ) -> None:
        """Log the graph of a model; see ``TensorboardLogger.log_graph``."""
        self._logger.log_graph(model, input_to_model)

    def add_hparams(
        self,
        hparam_dict: dict[str, Any],
        metric_dict: dict[str, Any],
        hparam_domain_discrete: dict[str, list[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Log the hyperparameters and results of a finished trial as a separate run in the folder ``run_name``."""
        events = self._events_in(run_name or str(time.time()))
        for part in summary.hparams(hparam_dict, metric_dict, hparam_domain_discrete):  # type: ignore[no-untyped-call]
            events.add_summary(part, global_step)
        for name, value in metric_dict.items():
            events.add_summary(summary.scalar(name, value), global_step)  # type: ignore[no-untyped-call]

    def _events_in(self, folder: str) -> FileWriter:
        return _QueuedEvents(self._logger, self.log_dir, folder)

    def flush(self) -> None:
        """Wait until everything logged so far is written; see ``Logger.flush``."""
        self._logger.flush()

    def close(self) -> None:
        """Wait until everything logged so far is written; the file stays open until the logger is closed."""
        self.flush()


class _QueuedEvents(FileWriter):
    """FileWriter that passes its events to a logger; the logger writes the events to ``log_dir`` or a subfolder."""

    def __init__(self, logger: TensorboardLogger, log_dir: str, folder: str = "") -> None:
        self.event_writer = self
        self._logger = logger
        self._log_dir = log_dir
        self._folder = folder

    def get_logdir(self) -> str:
        return os.path.join(self._log_dir, self._folder)  # noqa: PTH118 - log_dir may be a remote address

    def add_event(self, event: Event, step: int | None = None, walltime: float | None = None) -> None:
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        self._logger.log_event(event.SerializeToString(), self._folder)


def _step(global_step: int | None) -> int:
    """Return ``global_step``, or 0 if ``global_step`` is ``None``."""
    return 0 if global_step is None else global_step


def _channels_first(image: Any, dataformats: str) -> Any:
    """Permute the dimensions of an image, or of a batch of images, to HW, CHW or NCHW."""
    order = {2: "HW", 3: "CHW", 4: "NCHW"}.get(len(dataformats), "")
    if sorted(dataformats.upper()) != sorted(order) or not order:
        raise ValueError(f"dataformats must be a permutation of HW, CHW or NCHW, got {dataformats!r}")
    if order == dataformats.upper():
        return image
    positions = [dataformats.upper().index(letter) for letter in order]
    return image.permute(positions) if hasattr(image, "permute") else np.transpose(image, positions)
