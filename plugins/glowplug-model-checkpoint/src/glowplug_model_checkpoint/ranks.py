"""Function calls on one rank, or on all ranks together.

If a function runs on all ranks and fails on one of them, every rank raises an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from glowplug.distributed import all_gather, rank, world_size

__all__ = ["alone", "check_rank", "everywhere", "together"]

T = TypeVar("T")


def check_rank(save_on_rank: int) -> None:
    """Check that the rank ``save_on_rank`` exists; otherwise, no rank would save anything.

    Raises:
        ValueError: If the rank does not exist.

    Example:
        >>> check_rank(0)
    """
    if not 0 <= save_on_rank < world_size():
        raise ValueError(
            f"save_on_rank must be a rank of this run, from 0 to {world_size() - 1}; got {save_on_rank!r}"
        )


def alone(function: Callable[[], T]) -> T:
    """Call a function on this rank only.

    Example:
        >>> alone(lambda: "saved")
        'saved'
    """
    return function()


def together(function: Callable[[], T]) -> T:
    """Call a function on all ranks and return the result of rank 0.

    No rank returns before all ranks have called the function.

    Raises:
        RuntimeError: If the function failed on another rank. The rank that failed raises its own exception.

    Example:
        >>> together(lambda: "saved")
        'saved'
    """
    return everywhere(function)[0]


def everywhere(function: Callable[[], T]) -> list[T]:
    """Call a function on all ranks and return the results of all ranks, which must be picklable.

    The function must not communicate with other ranks if it can fail on one of them.

    Raises:
        RuntimeError: If the function failed on another rank. The rank that failed raises its own exception.

    Example:
        >>> everywhere(lambda: "saved")
        ['saved']
    """
    if world_size() == 1:
        return [alone(function)]
    result, problem = None, None
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 - raised below, after all ranks have been informed
        problem = error
    outcomes = all_gather((result, problem and f"{type(problem).__name__}: {problem}"))
    if problem is not None:
        raise problem
    for other, (_, failure) in enumerate(outcomes):
        if failure is not None:
            raise RuntimeError(f"rank {rank()} stops because rank {other} failed: {failure}")
    # A result is None only if the function failed or returned None.
    return [each for each, _ in outcomes]  # type: ignore[misc]
