"""JSON Lines logger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glowplug import RunOutcome
from glowplug.loggers import Histogram, flatten_params
from glowplug_jsonl.file_logger import FileLogger
from glowplug_jsonl.line_file import log, whole_lines
from glowplug_jsonl.media import MediaFolder
from glowplug_jsonl.png import png


class JsonLinesLogger(FileLogger):
    """Write all records to a JSON Lines file.

    Records are scalars, hyperparameters, texts, histograms, images, figures and artifacts. Each line of the file is a JSON
    object, and its ``"kind"`` is the type of the record, such as ``"scalars"``. Images, figures and artifacts are stored as files
    in the folder ``<path>.files``. The line of an image, figure or artifact contains the path of the stored file, relative to the
    folder that contains the JSON Lines file. NaN and infinities are written as ``NaN`` and ``Infinity``, which Python's ``json``
    module and pandas read.

    If the JSON Lines file already exists, new lines are appended to this file. While the file cannot be written, for example
    because the disk is full, training continues and records wait in memory. After ``engine.load_state_dict()``, the logger skips
    the steps that the file already contains.

    Args:
        path: Path of the file. By default, a logger whose state is loaded continues the file of that state, and any other logger
            creates a file in the folder ``runs``. With ``all_ranks=True``, ``path`` is required, and ranks other than 0 write to
            files such as ``run.rank1.jsonl``.
        **options: Keyword arguments of :class:`~glowplug.loggers.Logger`, such as ``timeout``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with JsonLinesLogger(Path(folder) / "run.jsonl") as logger:
        ...         logger.log_params({"optimizer": {"lr": 0.1}})
        ...         logger.log_scalars({"loss": 0.5}, step=1, timestamp=0)
        ...     print((Path(folder) / "run.jsonl").read_text(), end="")
        {"kind": "params", "values": {"optimizer/lr": 0.1}}
        {"kind": "scalars", "step": 1, "time": 0, "values": {"loss": 0.5}}
        {"kind": "end", "outcome": null}
    """

    SUFFIX = ".jsonl"

    @property
    def media(self) -> MediaFolder:
        """Folder that contains the images, figures and artifacts."""
        path = self.file_path
        return MediaFolder(path.with_name(f"{path.name}.files"))

    def is_whole(self, tail: bytes) -> bool:
        """Return whether ``tail``, the text after the last line break of the file, is a complete JSON object.

        Raises:
            ValueError: If ``tail`` does not start with ``{``.
        """
        if not tail.startswith(b"{"):
            raise ValueError(
                f"{self.path} is not a JSON Lines file, because its last line starts with {tail[:40]!r}; choose another path"
            )
        return isinstance(_parsed(tail), dict)

    def logged_steps(self) -> Mapping[str, int]:
        """Return the highest step of each name in the file."""
        steps: dict[str, int] = {}
        for line in self._lines():
            kind, step = line.get("kind"), line.get("step")
            if isinstance(step, int):
                values = line.get("values")
                for name in values if isinstance(values, dict) else (line.get("name"),):
                    key = f"{kind}:{name}"
                    steps[key] = max(step, steps.get(key, step))
        return steps

    def _lines(self) -> Iterator[dict[str, Any]]:
        damaged = 0
        for text in whole_lines(self.file_path):
            line = _parsed(text)
            if isinstance(line, dict):
                yield line
            else:
                damaged += 1
        if damaged:
            log.warning(
                "%s: %d lines are not JSON objects and are ignored; steps in these lines may be logged again",
                self.path,
                damaged,
            )

    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write one line for each record of scalars, and all lines with a single write."""
        # The plus turns booleans into numbers.
        self._append(
            [
                _line("scalars", step, time, values={name: +value for name, value in scalars.items()})
                for scalars, step, time in rows
            ]
        )

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters, with nested names joined as in ``optimizer/lr``."""
        self._append([_dumps({"kind": "params", "values": flatten_params(params)})])

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text."""
        self._append([_line("text", step, timestamp, name=name, text=text)])

    def write_histogram(self, name: str, histogram: Histogram, step: int, timestamp: float) -> None:
        """Write a histogram: counts of bins of equal width, and the minimum, maximum, sum and sum of squares of the values."""
        self._append([_line("histogram", step, timestamp, name=name, **histogram._asdict())])

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image as a PNG file."""
        self._add_file("image", name, step, timestamp, ".png", png(image))

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a figure as a PNG file, or an interactive figure as an HTML file."""
        if isinstance(figure, str):
            self._add_file("figure", name, step, timestamp, ".html", figure.encode())
        else:
            self._add_file("figure", name, step, timestamp, ".png", png(figure))

    def write_artifact(self, path: str, name: str | None) -> None:
        """Copy a file or folder, and write a line with the path of the copy.

        Raises:
            FileNotFoundError: If ``path`` does not exist.
            ValueError: If ``name`` is an absolute path or contains ``..``.
        """
        source = Path(path)
        # An error of the source affects this record only.
        source.stat()
        with self._writing():
            file = self.media.copy(source, name)
        self._append([_dumps({"kind": "artifact", "name": name, "file": file})])

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Write a line with the outcome of the run, and close the file."""
        try:
            self._append([_dumps({"kind": "end", "outcome": outcome and outcome.value})])
        finally:
            self._close()

    def _add_file(
        self, kind: str, name: str, step: int, timestamp: float, suffix: str, content: bytes
    ) -> None:
        with self._writing():
            file = self.media.add(f"{kind}s", name, step, suffix, content)
        self._append([_line(kind, step, timestamp, name=name, file=file)])

    def _append(self, lines: Sequence[str]) -> None:
        text = "\n".join(lines) + "\n"
        with self._writing() as file:
            file.append(text)


def _line(kind: str, step: int, timestamp: float, **content: Any) -> str:
    return _dumps({"kind": kind, "step": step, "time": timestamp, **content})


# The lines are ASCII, so any text can be written.
_dumps = json.JSONEncoder(default=str).encode


def _parsed(text: bytes) -> Any:
    """Return the JSON value of a line, or ``None`` if the line is not valid JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
