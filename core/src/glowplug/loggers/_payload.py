"""Conversion of the payloads of records to plain data: histograms, pixels and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from glowplug.loggers._record import Record
from glowplug.loggers._snapshot import HostCopy, resolve

BINS = 256
CHANNELS = (1, 3, 4)
COLUMNS = 8
"""Images of a batch that are shown side by side."""


class Histogram(NamedTuple):
    """Distribution of the finite values of an array, in bins of equal width.

    Attributes:
        counts: The number of values in each bin.
        minimum: The smallest value, which is the left edge of the first bin.
        maximum: The largest value, which is the right edge of the last bin.
        total: The sum of the values.
        total_of_squares: The sum of the squares of the values.

    Example:
        >>> histogram = Histogram([1, 0, 3], minimum=0.0, maximum=3.0, total=7.5, total_of_squares=21.0)
        >>> histogram.edges
        [0.0, 1.0, 2.0, 3.0]
    """

    counts: Sequence[int]
    minimum: float
    maximum: float
    total: float
    total_of_squares: float

    @property
    def edges(self) -> list[float]:
        """The ``len(counts) + 1`` edges of the bins."""
        width = (self.maximum - self.minimum) / len(self.counts)
        return [*(self.minimum + width * i for i in range(len(self.counts))), self.maximum]


class Finished(NamedTuple):
    """A payload that is plain data already, because the thread that logged the record has converted it."""

    value: Any


def finish(record: Record) -> Record:
    """Convert the payload of a record to plain data.

    Raises:
        ValueError: If a histogram has no finite values.
    """
    if isinstance(record.payload, Finished):
        return record._replace(payload=record.payload.value)
    payload = resolve(record.payload)
    if record.kind == "histogram":
        payload = _histogram_of(payload)
    elif record.kind in ("image", "figure") and not isinstance(payload, str):
        payload = _pixels_of(payload)
    return record if payload is record.payload else record._replace(payload=payload)


def finish_early(record: Record) -> Record:
    """Convert the payload of a record on the thread that logs the record, for which :func:`finish` then has nothing to do.

    A tensor that is still being copied from an accelerator is not converted, because that would wait for the accelerator.
    """
    if isinstance(record.payload, HostCopy) and not record.payload.is_copied:
        return record
    try:
        return record._replace(payload=Finished(finish(record).payload))
    except Exception:  # noqa: BLE001 - the worker reports why it refuses the record
        return record


def layout_of(shape: Sequence[int]) -> str:
    """Return the order of an image's dimensions as the letters N (batch), C (channels), H (height) and W (width).

    Raises:
        ValueError: If an image cannot have this shape.

    Example:
        >>> layout_of((3, 32, 32)), layout_of((32, 32, 3)), layout_of((16, 1, 28, 28))
        ('CHW', 'HWC', 'NCHW')
    """
    *batch, last = ("N", shape[1:]) if len(shape) == 4 else (shape,)  # noqa: PLR2004 - NCHW
    prefix = "".join(batch) if batch else ""
    if len(last) == 2 and not prefix:  # noqa: PLR2004 - HW
        return "HW"
    if len(last) == 3 and last[0] in CHANNELS:  # noqa: PLR2004 - CHW
        return f"{prefix}CHW"
    if len(last) == 3 and last[2] in CHANNELS:  # noqa: PLR2004 - HWC
        return f"{prefix}HWC"
    raise ValueError(
        f"an image of shape {tuple(shape)} cannot be shown; use the shape (height, width), (channels, height, width) or "
        "(height, width, channels), with 1, 3 or 4 channels, or a batch of images with channels"
    )


def _histogram_of(values: Any) -> Histogram:
    import numpy as np

    array = np.asarray(values).ravel()
    if array.dtype.kind not in "fiu":
        array = array.astype(np.float64)
    finite = array[np.isfinite(array)]
    if not finite.size:
        raise ValueError(f"none of its {array.size} values is finite")
    # float32 sums of many values are inexact, and differences of integers may overflow.
    minimum, maximum = float(finite.min()), float(finite.max())
    total, squares = finite.sum(dtype=np.float64), np.square(finite, dtype=np.float64).sum()
    counts = [finite.size]
    if minimum < maximum:
        # Between close numbers, float32 has fewer values than there are edges.
        counts = np.histogram(finite.astype(np.float64), BINS, (minimum, maximum))[0].tolist()
    return Histogram(counts, minimum, maximum, float(total), float(squares))


def _pixels_of(image: Any) -> Any:
    """Convert an image to an array of type ``uint8`` and shape ``(height, width, channels)``."""
    import numpy as np

    array = np.asarray(image)
    layout = layout_of(array.shape)
    if layout == "HW":
        array = array[..., None]
    elif layout.endswith("CHW"):
        array = np.moveaxis(array, -3, -1)
    if layout.startswith("N"):
        array = _grid(array)
    if array.dtype.kind == "f":
        array = np.rint(np.nan_to_num(array, posinf=1.0) * 255)
    elif array.dtype.kind == "b":
        array = array * 255
    return np.ascontiguousarray(array.clip(0, 255), dtype=np.uint8)


def _grid(images: Any) -> Any:
    """Arrange a batch of images in rows, as one large image."""
    import numpy as np

    count, height, width, channels = images.shape
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    grid = np.zeros((rows * columns, height, width, channels), images.dtype)
    grid[:count] = images
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)
