"""TensorBoard logger."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from glowplug import RunOutcome
from glowplug.loggers import Histogram, Logger, LoggerOptions, flatten_params
from glowplug_tensorboard.hparams import params_table, session_end, session_start

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from glowplug_tensorboard.event_file import Writer
    from glowplug_tensorboard.queue_writer import QueueWriter

log = logging.getLogger("glowplug.tensorboard")

PARAMS_TAG = "params"
# Names under which serialized events pass the queue as parameters.
EVENT, FOLDER, STEP = "glowplug.event", "glowplug.folder", "glowplug.step"


class TensorboardLogger(Logger):
    """Write scalars, histograms, texts, images, figures, graphs and hyperparameters to TensorBoard event files.

    The event file is created at the first record that has a step. If the file cannot be written, for example because the disk is
    full, training continues. The records then wait in memory while the logger tries to create a new file. The name of each value
    becomes a TensorBoard tag. TensorBoard shows the step and the time of each ``log_*`` call.

    TensorBoard's HPARAMS page shows the run's metrics, together with the hyperparameters that you log before all other records.
    TensorBoard's TEXT page shows the hyperparameters of all ``log_params`` calls, under the tag ``params``.

    Args:
        log_dir: Folder of the event files. A relative path is resolved against the current folder when the logger is created.
            Defaults to ``runs/<date>_<host>``. With ``all_ranks=True``, ``log_dir`` is required, and ranks other than 0 write to
            subfolders such as ``rank1``.
        comment: Suffix of the default ``log_dir``.
        purge_step: TensorBoard hides the records of this step and of all later steps in files that ``log_dir`` already contains.
            By default, no records are hidden.
        max_queue: Ignored, because events are written immediately; accepted for compatibility with ``SummaryWriter``.
        flush_secs: Ignored, because events are written immediately; accepted for compatibility with ``SummaryWriter``.
        filename_suffix: Suffix of the file names.
        on_repeat: What happens when a resumed run logs steps that ``log_dir`` already contains. ``"skip"`` does not log these
            steps again. ``"overwrite"`` logs them again: TensorBoard hides all earlier records from the first step on that the
            resumed run logs. This applies to all names, so choose ``"overwrite"`` only if all steps count the same thing, such
            as iterations. Defaults to ``"skip"``.
        **options: Keyword arguments of :class:`~glowplug.loggers.Logger`, such as ``timeout``.

    Raises:
        ValueError: If ``on_repeat`` is unknown, or if ``all_ranks`` is ``True`` and ``log_dir`` is not given.

    Example:
        >>> import tempfile
        >>> from glowplug import Engine, Events
        >>> trainer = Engine(lambda engine, batch: 1 / batch)
        >>> with tempfile.TemporaryDirectory() as folder, TensorboardLogger(folder) as logger:
        ...     logger.log_params({"lr": 0.1})
        ...     _ = logger.attach_output_handler(
        ...         trainer,
        ...         Events.ITERATION_COMPLETED,
        ...         tag="training",
        ...         output_transform=lambda loss: {"loss": loss},
        ...     )
        ...     state = trainer.run([1, 2, 4])
        ...     logger.counts
        Counts(sent=4, dropped=0, pending=0)
    """

    # The event file is on disk already.
    uses_spool = False

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
        *,
        on_repeat: Literal["skip", "overwrite"] = "skip",
        **options: Unpack[LoggerOptions],
    ) -> None:
        super().__init__(**options)
        if on_repeat not in ("skip", "overwrite"):
            raise ValueError(f'TensorboardLogger: on_repeat must be "skip" or "overwrite", got {on_repeat!r}')
        if self.all_ranks and log_dir is None:
            raise ValueError(
                "TensorboardLogger: all_ranks=True needs log_dir=, because the default folders of the ranks may differ"
            )
        self.log_dir = None if log_dir is None else _absolute(os.fspath(log_dir))
        self.on_repeat = on_repeat
        # Folders in which this process has hidden the earlier records.
        self._purged: set[str] = set()
        self.comment = comment
        self.purge_step = purge_step
        self.max_queue = max_queue
        self.flush_secs = flush_secs
        self.filename_suffix = filename_suffix
        self._default_dir = _absolute(
            os.path.join("runs", f"{time.strftime('%b%d_%H-%M-%S')}_{socket.gethostname()}{comment}")  # noqa: PTH118 - a plain string
        )
        self._writer: Writer | None = None
        self._queue_writer: QueueWriter | None = None
        self._params_logged = 0
        # Hyperparameters of all calls; the HPARAMS page has those of the first calls, up to the next record of another kind.
        self._params: dict[str, Any] = {}
        self._is_session_started = False

    @property
    def folder(self) -> str:
        """Folder of the event files, which is ``log_dir``, or a subfolder such as ``rank1`` on ranks other than 0."""
        folder = self.log_dir or self._default_dir
        if not self.all_ranks or self.rank == 0:
            return folder
        return os.path.join(folder, f"rank{self.rank}")  # noqa: PTH118 - log_dir may be a remote address

    @property
    def writer(self) -> QueueWriter:
        """A ``SummaryWriter``, for methods that the logger lacks, such as ``writer.add_pr_curve(...)``.

        Records of this writer pass through the logger's queue, like those of the ``log_*`` methods. Only ``add_embedding`` writes
        files directly.
        """
        if self._queue_writer is None:
            from glowplug_tensorboard.queue_writer import QueueWriter

            self._queue_writer = QueueWriter(self, self.folder)
        return self._queue_writer

    def log_graph(self, model: nn.Module, inputs: Any) -> None:
        """Log the graph of a model; if torch cannot trace the model, log a warning instead.

        The model is run on the calling thread, in evaluation mode and without gradients. The buffers of the model, the modes of
        its layers and the random states are restored afterwards.

        Args:
            model: The model.
            inputs: An input tensor, or a tuple of the model's inputs.

        Raises:
            TypeError: If ``model`` is not a ``torch.nn.Module``.
            Exception: If torch cannot trace the model and ``on_error`` is ``"raise"``.

        Example:
            >>> import tempfile
            >>> from torch import nn, zeros
            >>> with tempfile.TemporaryDirectory() as folder, TensorboardLogger(folder) as logger:
            ...     logger.log_graph(nn.Linear(2, 1), zeros(4, 2))
            ...     _ = logger.flush()
            ...     logger.counts
            Counts(sent=2, dropped=0, pending=0)
        """
        if not callable(getattr(model, "named_parameters", None)):
            raise TypeError(f"TensorboardLogger.log_graph: model must be a torch.nn.Module, got {model!r}")
        if not self.is_logging_rank:
            return
        from glowplug_tensorboard.graph import add_graph

        try:
            add_graph(self.writer, model, inputs)
        except Exception as error:
            if self.on_error == "raise":
                raise
            log.warning(
                "TensorboardLogger: the graph of %s was not logged, because torch cannot trace it: %s: %s",
                type(model).__name__,
                type(error).__name__,
                error,
            )

    def log_event(self, event: bytes, folder: str = "") -> None:
        """Log a serialized TensorBoard ``Event``.

        An event that has no step, or the step 0, is treated like hyperparameters: it waits until the event file exists, and a
        resumed run logs it again.

        Args:
            event: The serialized event.
            folder: Subfolder of ``log_dir`` for the event; TensorBoard shows each subfolder as a separate run. Defaults to
                ``log_dir`` itself.

        Raises:
            google.protobuf.message.DecodeError: If ``event`` is not an event.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        from glowplug_tensorboard.logged_steps import event_name

        parsed = Event.FromString(event)
        step = parsed.step or None
        name = event_name(folder, parsed.summary.value[0].tag) if parsed.summary.value else None
        # The queue has no kind for events, which only TensorBoard has.
        payload = {EVENT: event, FOLDER: folder, STEP: step}
        self._check_and_put("params", name, step, parsed.wall_time, payload)

    def log_artifact(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """Raise an error, because TensorBoard stores no files.

        Raises:
            TypeError: Always. The message suggests other ways to log the file.
        """
        raise TypeError(
            f"TensorboardLogger.log_artifact: TensorBoard stores no files, so {os.fspath(path)} was not logged; log it with "
            "another logger, such as MLflowLogger, or log its path with log_text(name, path, step)"
        )

    def run_info(self) -> Mapping[str, str]:
        """Return ``log_dir``, which identifies the run; before ``log_dir`` is known, return an empty mapping."""
        return {} if self.log_dir is None else {"log_dir": self.log_dir}

    def continue_run(self, info: Mapping[str, str]) -> None:
        """Continue in the folder of an earlier process, unless the user passed ``log_dir``."""
        self.log_dir = self.log_dir or info["log_dir"]
        self._queue_writer = None
        self._purged = set()

    def logged_steps(self) -> Mapping[str, int]:
        """Return the highest step logged under each name in ``log_dir``; with ``on_repeat="overwrite"``, return an empty dict."""
        from glowplug_tensorboard.logged_steps import logged_steps

        return logged_steps(self.folder) if self.log_dir and self.on_repeat == "skip" else {}

    def prepare_backend(self) -> None:
        """Import TensorBoard."""
        from glowplug_tensorboard import event_file  # noqa: F401

    def open_backend(self) -> None:
        """Create the event file."""
        from glowplug_tensorboard.event_file import Writer

        self.log_dir = self.log_dir or self._default_dir
        self._writer = Writer(self.folder, purge_step=self.purge_step, filename_suffix=self.filename_suffix)
        # If this file fails, the next file does not purge records again.
        self.purge_step = None

    def _opened(self) -> Writer:
        if self._writer is None:
            raise ConnectionError(f"the event file in {self.folder} is not open")
        return self._writer

    @contextmanager
    def _writing(self, step: int | None = None, folder: str = "") -> Iterator[Writer]:
        """Yield the writer for a record of a step; turn an OSError into a ConnectionError, so that the logger opens a new file."""
        try:
            writer = self._opened()
            if (
                step is not None
                and self.on_repeat == "overwrite"
                and self.is_resumed
                and folder not in self._purged
            ):
                writer.purge(step, folder)
                self._purged.add(folder)
            if self._params and not self._is_session_started:
                # TensorBoard reads the first session start only.
                writer.summaries.add_summary(session_start(self._params))
                self._is_session_started = True
            yield writer
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ConnectionError:
        return ConnectionError(f"the event file in {self.folder} cannot be written: {error}")

    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write numbers as events, one event for each row; each name becomes a tag."""
        from glowplug_tensorboard.scalar_events import scalar_event

        with self._writing(rows[0][1]) as writer:
            writer.events.write(scalar_event(*row) for row in rows)

    def write_histogram(self, name: str, histogram: Histogram, step: int, timestamp: float) -> None:
        """Write a distribution."""
        with self._writing(step) as writer:
            writer.add_histogram_raw(
                _escaped(name),
                min=histogram.minimum,
                max=histogram.maximum,
                num=sum(histogram.counts),
                sum=histogram.total,
                sum_squares=histogram.total_of_squares,
                bucket_limits=histogram.edges[1:],
                bucket_counts=histogram.counts,
                global_step=step,
                walltime=timestamp,
            )

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text; TensorBoard renders it as Markdown."""
        with self._writing(step) as writer:
            writer.add_text(_escaped(name), _escaped(text), step, walltime=timestamp)

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image."""
        with self._writing(step) as writer:
            writer.add_image(_escaped(name), image, step, walltime=timestamp, dataformats="HWC")

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure as an image.

        Raises:
            TypeError: If ``figure`` is not from matplotlib.
        """
        if isinstance(figure, str):
            raise TypeError("TensorBoard shows only matplotlib figures; log this figure with another logger")
        self.write_image(name, figure, step, timestamp)

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters; the names of nested hyperparameters are joined with ``/``, as in ``optimizer/lr``."""
        if params.keys() == {EVENT, FOLDER, STEP}:
            with self._writing(params[STEP], params[FOLDER]) as writer:
                writer.events_in(params[FOLDER]).write([params[EVENT]])
            return
        flat = {
            _escaped(name): _escaped(value) if isinstance(value, str) else value
            for name, value in flatten_params(params).items()
        }
        try:
            self._opened().add_text(PARAMS_TAG, params_table(flat), self._params_logged)
        except OSError as error:
            raise self._unwritable(error) from error
        self._params.update(flat)
        self._params_logged += 1

    def flush_backend(self) -> None:
        """Flush the event file."""
        with self._writing() as writer:
            writer.flush()

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Close the event file.

        If hyperparameters were logged, first write the status of the run for TensorBoard's HPARAMS page.
        """
        with self._writing() as writer:
            if self._params_logged:
                writer.summaries.add_summary(session_end(outcome))
            writer.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_writer": None, "_queue_writer": None}


def _escaped(text: str) -> str:
    """Escape surrogates, such as the undecodable bytes of a file name, which an event cannot contain."""
    return text.encode(errors="backslashreplace").decode()


def _absolute(folder: str) -> str:
    """Make the path of a local folder absolute, so that the path stays valid after ``os.chdir``."""
    return folder if "://" in folder else os.path.abspath(folder)  # noqa: PTH100 - keeps symbolic links
