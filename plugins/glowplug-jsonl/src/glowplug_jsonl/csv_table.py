"""CSV logger."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from glowplug import RunOutcome
from glowplug_jsonl.file_logger import FileLogger
from glowplug_jsonl.line_file import whole_lines

COLUMNS = ("step", "name", "value", "time")

# Each row is a line, so that the part of a row at the end of a file can be recognized.
LINE_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r"})


class CsvLogger(FileLogger):
    """Write scalars to a CSV file with the columns ``step``, ``name``, ``value`` and ``time``.

    Each number has its own row. A table with one column for each name would have to be rewritten whenever a new name appears,
    for example after the first validation. A process that is killed during the rewrite could damage earlier rows. To get such a
    table, pivot the rows with pandas: ``pandas.read_csv("run.csv").pivot_table("value", "step", "name")``.

    If ``path`` is a file that a ``CsvLogger`` has written, new rows are appended to this file. While the file cannot be written,
    for example because the disk is full, training continues and records wait in memory. After ``engine.load_state_dict()``, the
    logger skips the steps that the file already contains.

    Args:
        path: Path of the file. By default, a logger whose state is loaded continues the file of that state, and any other logger
            creates a file in the folder ``runs``. With ``all_ranks=True``, ``path`` is required, and ranks other than 0 write to
            files such as ``run.rank1.csv``.
        **options: Keyword arguments of :class:`~glowplug.loggers.Logger`, such as ``timeout``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with CsvLogger(Path(folder) / "run.csv") as logger:
        ...         logger.log_scalars({"loss": 0.5, "accuracy": 0.75}, step=1, timestamp=0)
        ...     print((Path(folder) / "run.csv").read_text(), end="")
        step,name,value,time
        1,loss,0.5,0
        1,accuracy,0.75,0
    """

    SUFFIX = ".csv"
    HEADER = ",".join(COLUMNS) + "\n"

    def open_backend(self) -> None:
        """Open the file.

        Raises:
            ValueError: If the file already exists and has other columns.
        """
        first = next(self._rows(), None)
        if first is not None and tuple(first) != COLUMNS:
            raise ValueError(
                f"{self.path} has the columns {','.join(first)} instead of step,name,value,time; choose another path"
            )
        self._has_header = first is not None
        super().open_backend()

    def is_whole(self, tail: bytes) -> bool:
        """Return ``False``, because a row without a line break may lack its last digits.

        Raises:
            ValueError: If the file has no header line, and ``tail`` is not the beginning of one.
        """
        if not self._has_header and not self.HEADER.encode().startswith(tail):
            raise ValueError(
                f"{self.path} does not start with the header line step,name,value,time; choose another path"
            )
        return False

    def logged_steps(self) -> Mapping[str, int]:
        """Return the highest step of each name in the file."""
        steps: dict[str, int] = {}
        for row in self._rows():
            # A damaged row, or the header.
            with suppress(ValueError):
                step, name, _, _ = row
                key, number = f"scalars:{name}", int(step)
                steps[key] = max(number, steps.get(key, number))
        return steps

    def _rows(self) -> Iterator[list[str]]:
        return csv.reader(line.decode(errors="replace") for line in whole_lines(self.file_path))

    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write each number as a row, and all rows with a single write.

        A line break in a name is replaced by two characters, a backslash and a letter.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for scalars, step, timestamp in rows:
            for name, value in scalars.items():
                # The plus turns booleans into numbers.
                writer.writerow((step, name.translate(LINE_BREAKS), +value, timestamp))
        with self._writing() as file:
            file.append(text.getvalue())

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Close the file."""
        self._close()
