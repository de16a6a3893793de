"""JSON Lines logger."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glowplug import RunOutcome
from glowplug.loggers import Logger, flatten_params


class JsonLinesLogger(Logger):
    """Writes records to a JSON Lines file.

    Each line has a ``kind``: ``scalars``, ``params``, ``text`` or ``end``. New lines are appended to an existing file. NaN
    and infinities are written in the form that Python's ``json`` module reads.

    Args:
        path: File to write; its folder must exist.
        **options: Options of ``glowplug.loggers.Logger``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with JsonLinesLogger(Path(folder) / "run.jsonl") as logger:
        ...         logger.log_scalars({"loss": 0.5}, step=1, timestamp=0)
        ...     print((Path(folder) / "run.jsonl").read_text(), end="")
        {"kind": "scalars", "step": 1, "time": 0, "values": {"loss": 0.5}}
        {"kind": "end", "outcome": null}
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(**options)
        self.path = Path(path)

    def open_backend(self) -> None:
        """Check that the file can be written; after an error, records wait and the logger tries again."""
        self.path.open("ab").close()

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        """Write numbers."""
        self._write(kind="scalars", step=step, time=timestamp, values=dict(scalars))

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text."""
        self._write(kind="text", step=step, time=timestamp, name=name, text=text)

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters; nested names are joined as ``optimizer/lr``."""
        self._write(kind="params", values=flatten_params(params))

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Write how the run ended."""
        self._write(kind="end", outcome=outcome and outcome.value)

    def _write(self, **line: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
