"""Writers: the logger methods that access the backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from glowplug.loggers._payload import Histogram
from glowplug.loggers._record import KINDS, Record
from glowplug.state import RunOutcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.generic]

Row: TypeAlias = tuple[Mapping[str, float], int, float]
"""Arguments of one call of :meth:`Writer.write_scalars`: scalars, step and timestamp."""


class Writer:
    """Backend methods that the author of a logger implements.

    One worker thread calls these methods in the order of the ``log_*`` calls. Only one of :meth:`write_scalars` and
    :meth:`write_scalars_batch` is required. A ``log_*`` method other than ``log_scalars`` raises ``TypeError`` if the
    logger does not implement the ``write_*`` method of the same kind.

    If a ``write_*`` method raises ``ConnectionError`` or ``TimeoutError``, the worker calls :meth:`open_backend` with
    increasing delays until that call succeeds. Then the worker writes the record again. If the ``write_*`` method raises any
    other exception, the record is dropped, counted and reported.

    Example:
        >>> from glowplug.loggers import Logger
        >>> class ListLogger(Logger):
        ...     def __init__(self, **options):
        ...         super().__init__(**options)
        ...         self.rows = []
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         self.rows.append((step, scalars))
        >>> with ListLogger() as logger:
        ...     logger.log_scalars({"loss": 0.5}, step=1)
        >>> logger.rows, logger.takes("log_text")
        ([(1, {'loss': 0.5})], False)
    """

    uses_spool: ClassVar[bool] = True
    """Whether records wait on disk until they are written; ``False`` for a backend that is a local file."""

    def prepare_backend(self) -> None:
        """Import libraries and create local databases. Does nothing by default.

        The worker calls this method once, before the first call of :meth:`open_backend`. The time that this method takes does
        not count against the ``timeout`` of the logger. If this method raises an exception, it is not called again, so
        ``open_backend`` must also work without it.
        """

    def logged_steps(self) -> Mapping[str, int]:
        """Return the highest step of each name in the backend, for a resumed run. Returns an empty mapping by default.

        Implement this method if the backend can tell these steps. If ``uses_spool`` is true, the worker calls this method after
        :meth:`open_backend`; the spool also stores the steps, but not those of records that were sent while its disk was full, or
        from another machine. The names have the form ``scalars:loss`` or ``image:samples``.
        """
        return {}

    def run_info(self) -> Mapping[str, str]:
        """Return a mapping that identifies the run in the backend, or an empty mapping if the run is not known yet.

        The mapping must not contain secrets, because it is saved in the spool and in the state of the engine. Two loggers that
        return the same mapping log to the same run.
        """
        return {}

    def continue_run(self, info: Mapping[str, str]) -> None:
        """Continue the run of an earlier process.

        This method is called before the backend is opened, and not necessarily on the worker thread. It does nothing by
        default.

        Args:
            info: The result of :meth:`run_info` in the earlier process.
        """

    def replay_options(self) -> Mapping[str, Any] | None:
        """Return the keyword arguments with which ``glowplug spool replay`` creates this logger again.

        The arguments must be plain data without secrets. If this method returns ``None``, as by default,
        ``glowplug spool replay`` cannot deliver the waiting records; they wait until the script resumes the run.
        """
        return None

    def open_backend(self) -> None:
        """Connect to the backend. Does nothing by default.

        The worker calls this method before it writes the first record, and again after the connection is lost.
        """

    def flush_backend(self) -> None:
        """Flush the buffers of the backend. Does nothing by default.

        The worker calls this method at the end of each run, and when ``flush()`` or ``close()`` is called.
        """

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Disconnect from the backend. Does nothing by default.

        If the backend was opened, the worker calls this method once, when the logger is closed.

        Args:
            outcome: How the run ended; ``None`` if there was no run.
        """

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        """Write numbers.

        Args:
            scalars: Mapping of names to numbers. Names may contain ``/``; numbers may be NaN or infinite.
            step: Epoch or iteration.
            timestamp: Unix time in seconds; by default, the time of the ``log_scalars`` call.
        """
        self.write_scalars_batch([(scalars, step, timestamp)])

    def write_scalars_batch(self, rows: Sequence[Row]) -> None:
        """Write several records of scalars in one request.

        Args:
            rows: The arguments of :meth:`write_scalars` for each record, in order.
        """
        for row in rows:
            self.write_scalars(*row)

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters.

        Args:
            params: Mapping of names to values. Values may be nested mappings; :func:`~glowplug.loggers.flatten_params` returns
                a flat dict.
        """
        raise self._unsupported("write_params")

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text.

        Args:
            name: Name of the text.
            text: The text.
            step: Epoch or iteration.
            timestamp: Unix time in seconds.
        """
        raise self._unsupported("write_text")

    def write_histogram(self, name: str, histogram: Histogram, step: int, timestamp: float) -> None:
        """Write a distribution.

        Args:
            name: Name of the histogram.
            histogram: The distribution, a :class:`Histogram`.
            step: Epoch or iteration.
            timestamp: Unix time in seconds.
        """
        raise self._unsupported("write_histogram")

    def write_image(self, name: str, image: Array, step: int, timestamp: float) -> None:
        """Write an image.

        Args:
            name: Name of the image.
            image: Array of type ``uint8`` and shape ``(height, width, channels)``, with 1, 3 or 4 channels.
            step: Epoch or iteration.
            timestamp: Unix time in seconds.
        """
        raise self._unsupported("write_image")

    def write_figure(self, name: str, figure: Array | str, step: int, timestamp: float) -> None:
        """Write a figure.

        Args:
            name: Name of the figure.
            figure: For a matplotlib figure, an array of type ``uint8`` and shape ``(height, width, 4)``. For a figure with a
                method ``to_html``, such as a plotly figure, the result of this method as a string.
            step: Epoch or iteration.
            timestamp: Unix time in seconds.
        """
        raise self._unsupported("write_figure")

    def write_artifact(self, path: str, name: str | None) -> None:
        """Write a file or folder.

        Args:
            path: Path on this machine.
            name: Destination folder in the run's artifact store; ``None`` means the root of the store.
        """
        raise self._unsupported("write_artifact")

    @classmethod
    def implements(cls, method: str) -> bool:
        """Return whether the class overrides a method of :class:`Writer`, such as ``"write_text"``."""
        return getattr(cls, method) is not getattr(Writer, method)

    @classmethod
    def takes(cls, method: str) -> bool:
        """Return whether the logger supports a ``log_*`` method.

        Args:
            method: Name of the method, such as ``"log_text"``.

        Raises:
            ValueError: If no ``log_*`` method has this name.
        """
        kind = method.removeprefix("log_")
        if kind not in KINDS or kind == method:
            raise ValueError(
                f"unknown method {method!r}; choose one of {', '.join(f'log_{k}' for k in KINDS)}"
            )
        return cls.implements(f"write_{kind}") or (
            kind == "scalars" and cls.implements("write_scalars_batch")
        )

    @classmethod
    def _unsupported(cls, method: str) -> TypeError:
        written = ", ".join(f"write_{kind}" for kind in KINDS if cls.takes(f"log_{kind}"))
        return TypeError(
            f"{cls.__name__} does not implement {method}; it implements {written or 'no write methods'}"
        )


def write(writer: Writer, records: Sequence[Record]) -> None:
    """Write one record, or several records of scalars."""
    record = records[0]
    if record.kind == "scalars":
        # By default, write_scalars_batch() calls write_scalars() for each row. Records of scalars always have a step.
        writer.write_scalars_batch([(r.payload, r.step or 0, r.timestamp) for r in records])
    elif record.kind == "params":
        writer.write_params(record.payload)
    elif record.kind == "artifact":
        writer.write_artifact(record.payload, record.name)
    else:
        method = getattr(writer, f"write_{record.kind}")
        method(record.name, record.payload, record.step, record.timestamp)
