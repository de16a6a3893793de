"""The ``log_*`` methods of loggers, which users call."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

from glowplug.loggers._flatten import checked_scalars
from glowplug.loggers._payload import layout_of
from glowplug.loggers._record import Kind
from glowplug.loggers._snapshot import PLAIN, items_of, plain, snapshot
from glowplug.loggers._step import checked_step
from glowplug.loggers._writer import Writer

if TYPE_CHECKING:
    from glowplug.loggers._snapshot import Params


class LogMethods(Writer):
    """The ``log_*`` methods, which check, copy and queue their arguments on the caller's thread."""

    def log_scalars(
        self, scalars: Mapping[str, SupportsFloat], step: SupportsIndex, timestamp: float | None = None
    ) -> None:
        """Log numbers.

        Args:
            scalars: Mapping of names to numbers. A name may contain ``/`` to form groups, as in ``training/loss``. A number may
                also be a zero-dimensional tensor or array.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If ``scalars`` is not a mapping of strings to numbers, if the step is not an integer, or if the
                timestamp is not a number.
        """
        checked = checked_scalars(scalars, type(self))
        # This method is called at each step, so it avoids the general _check_and_put() where it can.
        if step.__class__ is int and timestamp is None:
            self._put("scalars", None, step, time.time(), checked)
        else:
            self._check_and_put("scalars", None, step, timestamp, checked)

    def log_params(self, params: Params) -> None:
        """Log hyperparameters.

        Args:
            params: Mapping of names to values, ``argparse.Namespace``, dataclass instance, or another object with a
                ``keys`` method and access by key. Values may be numbers, strings, ``None``, lists, tuples, and nested mappings,
                namespaces and dataclasses. Tensors and arrays are logged as numbers or lists, and all other objects,
                such as ``bytes``, as ``str(value)``.

        Raises:
            TypeError: If ``params`` has an unsupported type, or if the logger does not implement ``write_params``.
        """
        self._require("params")
        if items_of(params) is None:
            raise TypeError(
                f"{type(self).__name__}.log_params: params must be a mapping, a namespace or a dataclass, got {params!r}"
            )
        self._check_and_put("params", None, None, None, plain(params))

    def log_text(self, name: str, text: str, step: SupportsIndex, timestamp: float | None = None) -> None:
        """Log text.

        Args:
            name: Name of the text.
            text: The text to log.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_text``.
        """
        self._require("text", name)
        if not isinstance(text, str):
            raise TypeError(f"{type(self).__name__}.log_text: text must be a string, got {text!r}")
        self._check_and_put("text", name, step, timestamp, text)

    def log_histogram(
        self, name: str, values: Any, step: SupportsIndex, timestamp: float | None = None
    ) -> None:
        """Log the distribution of values.

        Args:
            name: Name of the histogram.
            values: Tensor, array, list or tuple of numbers, of any shape.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_histogram``.
        """
        self._require("histogram", name)
        if not hasattr(values, "ndim") and not isinstance(values, (list, tuple)):
            raise TypeError(
                f"{type(self).__name__}.log_histogram: values must be a tensor, array or list, got {values!r}"
            )
        self._check_and_put("histogram", name, step, timestamp, snapshot(values))

    def log_image(self, name: str, image: Any, step: SupportsIndex, timestamp: float | None = None) -> None:
        """Log an image.

        Args:
            name: Name of the image.
            image: PIL image, tensor or array. The shape of a tensor or array is ``(height, width)``,
                ``(channels, height, width)`` or ``(height, width, channels)``, with 1, 3 or 4 channels. A batch of images with
                channels has one more dimension in front; its images are arranged in rows of 8. Floats range from 0 to 1 and
                integers from 0 to 255; values outside this range are clipped.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_image``.
        """
        self._require("image", name)
        pixels = snapshot(image)
        shape = getattr(pixels, "shape", None)
        if shape is None:
            raise TypeError(
                f"{type(self).__name__}.log_image: image must be a tensor, array or PIL image, got {image!r}"
            )
        try:
            layout_of(shape)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}.log_image: {name!r}: {error}") from None
        self._check_and_put("image", name, step, timestamp, pixels)

    def log_figure(self, name: str, figure: Any, step: SupportsIndex, timestamp: float | None = None) -> None:
        """Log a figure.

        Args:
            name: Name of the figure.
            figure: Matplotlib figure, or a figure of another library that the backend supports.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_figure``.
        """
        self._require("figure", name)
        picture = None if figure.__class__ in PLAIN else snapshot(figure)
        if not isinstance(picture, str) and not hasattr(picture, "ndim"):
            raise TypeError(
                f"{type(self).__name__}.log_figure: figure must be a Matplotlib figure or an object with a to_html method, got "
                f"{figure!r}"
            )
        self._check_and_put("figure", name, step, timestamp, picture)

    def log_artifact(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """Log the current content of a file or folder.

        The program may delete or replace the file or folder after this call. Files up to 8 MiB are copied. A larger file is
        hard-linked, so writing to it later would change the logged content.

        Args:
            path: Path of the file or folder on this machine.
            name: Destination folder in the run's artifact store. Defaults to the root of the store.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_artifact``.
            OSError: If the file or folder cannot be read.
        """
        self._require("artifact", "" if name is None else name)
        self._check_and_put("artifact", name, None, None, os.fspath(path))

    def _require(self, kind: Kind, name: object = "") -> None:
        if not self.takes(f"log_{kind}"):
            raise self._unsupported(f"write_{kind}")
        if not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}.log_{kind}: name must be a string, got {name!r}")

    def _check_and_put(
        self, kind: Kind, name: str | None, step: Any, timestamp: float | None, payload: Any
    ) -> None:
        if step.__class__ is not int and (step is not None or kind not in ("params", "artifact")):
            step = checked_step(step, f"{type(self).__name__}.log_{kind}")
        if timestamp is None:
            timestamp = time.time()
        elif not isinstance(timestamp, (int, float)):
            raise TypeError(
                f"{type(self).__name__}.log_{kind}: timestamp must be a number, got {timestamp!r}"
            )
        self._put(kind, name, step, timestamp, payload)

    @abstractmethod
    def _put(self, kind: Kind, name: str | None, step: int | None, timestamp: float, payload: Any) -> None:
        """Queue a record."""
