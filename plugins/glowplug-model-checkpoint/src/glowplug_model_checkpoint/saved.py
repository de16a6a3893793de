"""Description of one saved checkpoint, as the handler, its state and the manifest hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any

from glowplug_model_checkpoint.filenames import check_filename

__all__ = ["Saved", "plain_number"]


@dataclass(frozen=True)
class Saved:
    """A saved checkpoint.

    Args:
        filename: Name of the file.
        step: Step in the file name; by default the trainer's iteration, or its epoch for checkpoints ranked by score only.
        iteration: The trainer's iteration.
        epoch: The trainer's epoch.
        scores: The scores by their names; only finite numbers.
        is_finite: Whether all weights were finite; ``None`` if they were not scanned.

    Example:
        >>> Saved("model_3.pt", step=3, iteration=3).filename
        'model_3.pt'
    """

    filename: str
    step: int
    iteration: int = 0
    epoch: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    is_finite: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a state or a manifest."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Saved:
        """Return the checkpoint that a state or the metadata of a manifest describes; other keys are ignored.

        Raises:
            TypeError: If a value has the wrong type.
            ValueError: If a number is not finite or the file name is not safe.
            KeyError: If a value is missing.

        Example:
            >>> Saved.from_values({"filename": "a_3.pt", "step": 3, "iteration": 3, "epoch": 1, "scores": {}})
            Saved(filename='a_3.pt', step=3, iteration=3, epoch=1, scores={}, is_finite=None)
        """
        numbers = {name: _integer(name, values[name]) for name in ("step", "iteration", "epoch")}
        scores = {
            str(name): _finite(f"the score {name!r}", value) for name, value in values["scores"].items()
        }
        is_finite = values.get("is_finite")
        return cls(
            check_filename(values["filename"]),
            **numbers,
            scores=scores,
            is_finite=None if is_finite is None else bool(is_finite),
        )

    @classmethod
    def from_pair(cls, priority: object, filename: object, score_name: str | None) -> Saved:
        """Return the checkpoint that an entry of ignite's state describes.

        Args:
            priority: The score, or the step if checkpoints have no score.
            filename: Name of the file.
            score_name: Name of the score; ``None`` if checkpoints have no score.

        Raises:
            TypeError: If the file name is not a string.
            ValueError: If the priority is not a finite number, or the file name is not safe.

        Example:
            >>> Saved.from_pair(0.5, "model_0.5.pt", "accuracy").scores
            {'accuracy': 0.5}
        """
        number = _finite(f"the priority of {filename!r}", priority)
        name = check_filename(filename)
        if score_name is None:
            return cls(name, step=int(number), iteration=int(number))
        return cls(name, step=0, scores={score_name: number})


def plain_number(what: str, value: object) -> Any:
    """Return a number as a Python int or float.

    ``torch.load(weights_only=True)`` accepts Python numbers, but not numpy scalars.

    Args:
        what: Name of the value in error messages.
        value: A real number.

    Raises:
        ValueError: If the value is not a real number.

    Example:
        >>> plain_number("the score", 3)
        3
    """
    if not isinstance(value, Real):
        raise ValueError(  # noqa: TRY004 - the type that ignite raises
            f"{what} must be a number, got {value!r} of type {type(value).__name__}; convert a tensor with .item()"
        )
    return int(value) if isinstance(value, Integral) else float(value)


def _finite(what: str, value: object) -> Any:
    number = plain_number(what, value)
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite; got {number}")
    return number


def _integer(what: str, value: object) -> int:
    if not isinstance(value, Integral):
        raise TypeError(f"{what} must be an integer; got {value!r}")
    return int(value)
