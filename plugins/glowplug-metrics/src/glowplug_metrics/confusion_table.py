"""ConfusionTable: a confusion matrix with class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from glowplug_metrics import matrix_figures

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ConfusionTable"]

_FIGURES = {
    "precision": matrix_figures.precision,
    "recall": matrix_figures.recall,
    "f1": matrix_figures.dice,
    "iou": matrix_figures.iou,
    "accuracy": matrix_figures.one_against_rest,
}


class ConfusionTable:
    r"""Show a confusion matrix with class names, as text, rows or DataFrames.

    Args:
        matrix: Counts of shape (C, C) with actual classes in rows, as returned by ``ConfusionMatrix.compute()``.
        class_names: Unique names of the classes. Defaults to the class indices.

    Attributes:
        matrix: The counts, an integer tensor of shape (C, C) on the CPU.
        class_names: Names of the classes, a tuple.

    Raises:
        ValueError: If ``matrix`` is not a square integer matrix, or if ``class_names`` does not contain one unique name for each
            class.

    Example:
        >>> import torch
        >>> table = ConfusionTable(torch.tensor([[5, 2], [1, 7]]), ["cat", "dog"])
        >>> table.per_class()[0]["recall"]
        0.7142857142857143
        >>> print(table)
        actual \ predicted  cat  dog
        cat                   5    2
        dog                   1    7
        <BLANKLINE>
        class  precision  recall      f1     iou  accuracy  support
        cat       0.8333  0.7143  0.7692  0.6250    0.8000        7
        dog       0.7778  0.8750  0.8235  0.7000    0.8000        8
        mean      0.8056  0.7946  0.7964  0.6625    0.8000       15
    """

    def __init__(self, matrix: torch.Tensor, class_names: Sequence[str] | None = None) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.is_floating_point():  # noqa: PLR2004 - a matrix
            raise ValueError(
                f"matrix must be integer counts of shape (C, C), got {matrix.dtype} of shape {tuple(matrix.shape)}; if the "
                "matrix comes from a ConfusionMatrix with an average, call the table() method of that metric"
            )
        names = tuple(map(str, range(len(matrix)) if class_names is None else class_names))
        if len(names) != len(matrix) or len(set(names)) != len(names):
            raise ValueError(
                f"class_names must be {len(matrix)} unique names, one per class, got {list(names)}"
            )
        self.matrix = matrix.detach().cpu()
        self.class_names = names

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row for each class.

        Returns:
            Dicts with the keys ``class``, ``precision``, ``recall``, ``f1``, ``iou``, ``accuracy`` and ``support``. For the
            accuracy of a class, all other classes are merged into one. The support is the number of examples of the class. A
            score with a zero denominator is 0.
        """
        figures = {name: figure(self.matrix).tolist() for name, figure in _FIGURES.items()}
        columns = {"class": self.class_names, **figures, "support": self.matrix.sum(1).tolist()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def mean(self) -> dict[str, Any]:
        """Return the mean of each score over the classes and, as ``support``, the total number of examples."""
        means = {name: figure(self.matrix).mean().item() for name, figure in _FIGURES.items()}
        return {**means, "support": int(self.matrix.sum())}

    def to_pandas(self) -> DataFrame:
        """Return the scores as a DataFrame with one row per class and a last row with the means.

        Raises:
            ImportError: If pandas is not installed.
        """
        rows = [*self.per_class(), {"class": "mean", **self.mean()}]
        return _pandas().DataFrame(rows).set_index("class")

    def matrix_to_pandas(self) -> DataFrame:
        """Return the matrix as a DataFrame whose index is named ``actual`` and whose columns are named ``predicted``.

        Raises:
            ImportError: If pandas is not installed.
        """
        pd = _pandas()
        index = pd.Index(self.class_names, name="actual")
        columns = pd.Index(self.class_names, name="predicted")
        return pd.DataFrame(self.matrix.tolist(), index, columns)

    def __str__(self) -> str:
        head = ["actual \\ predicted", *self.class_names]
        matrix = [
            [name, *map(str, row)] for name, row in zip(self.class_names, self.matrix.tolist(), strict=True)
        ]
        rows = [*self.per_class(), {"class": "mean", **self.mean()}]
        figures = [[_as_text(value) for value in row.values()] for row in rows]
        return "\n".join([*_aligned([head, *matrix]), "", *_aligned([list(rows[0]), *figures])])


def _as_text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Format rows with the first column left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "to_pandas() and matrix_to_pandas() need pandas; run pip install 'glowplug-metrics[pandas]'. Without pandas, use the "
            "methods per_class() and mean() and the attribute matrix"
        ) from error
    return pd
