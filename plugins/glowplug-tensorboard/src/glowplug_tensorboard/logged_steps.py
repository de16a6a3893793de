"""Steps that the event files of a folder and its subfolders contain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("glowplug.tensorboard")

_KINDS = {"histograms": "histogram", "images": "image", "text": "text"}
_NAMES = {"simple_value": "scalars", "histo": "histogram"}
_TEXT = "/text_summary"


def event_name(folder: str, tag: str) -> str:
    """Return the name under which an event of ``TensorboardLogger.log_event`` passes the queue.

    Args:
        folder: Subfolder of ``log_dir``, or an empty string.
        tag: Tag of the first value in the event.
    """
    return f"{folder}/{tag}"


def logged_steps(folder: str) -> dict[str, int]:
    """Return the highest step logged under each name in a folder, such as ``{"scalars:loss": 20}``.

    Names of events that ``TensorboardLogger.log_event`` may have logged start with ``params:``, because these events pass the
    queue as parameters.

    Args:
        folder: Path of a local folder; for a remote address, the result is empty.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    steps: dict[str, int] = {}
    for path in sorted(Path(folder).rglob("*tfevents*")):
        subfolder = path.parent.relative_to(folder).as_posix().removeprefix(".")
        try:
            for data in RawEventFileLoader(str(path)).Load():
                event = Event.FromString(data)
                for value in event.summary.value:
                    for name in _names(subfolder, value):
                        steps[name] = max(event.step, steps.get(name, event.step))
        except Exception as error:  # noqa: BLE001 - a damaged file must not end the run
            log.warning(
                "TensorboardLogger: the event file %s cannot be read, so steps from this file may be logged again: %s",
                path,
                error,
            )
    return steps


def _names(subfolder: str, value: Any) -> Iterator[str]:
    """Yield the names of a value for all methods that may have logged the value, because the file does not contain the method."""
    yield f"params:{event_name(subfolder, value.tag)}"
    if subfolder:
        return
    kind = _KINDS.get(value.metadata.plugin_data.plugin_name) or value.WhichOneof("value")
    yield f"{_NAMES.get(kind, kind)}:{value.tag.removesuffix(_TEXT) if kind == 'text' else value.tag}"
    if kind == "image":
        # TensorBoard stores figures as images.
        yield f"figure:{value.tag}"
