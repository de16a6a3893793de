"""Steps that all ranks take together: if one of them fails, all of them know."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from glowplug.distributed import all_gather, rank, world_size

__all__ = ["alone", "check_rank", "together"]

T = TypeVar("T")


def check_rank(save_on_rank: int) -> None:
    """Refuse a rank that does not exist, on which nothing would ever be written.

    Raises:
        ValueError: there is no such rank.

    Example:
        >>> check_rank(0)
    """
    if not 0 <= save_on_rank < world_size():
        raise ValueError(
            f"save_on_rank={save_on_rank!r}, but the ranks go from 0 to {world_size() - 1}: nobody would save"
        )


def alone(step: Callable[[], T]) -> T:
    """Take a step without the other ranks, as :func:`together` does where there are none.

    Example:
        >>> alone(lambda: "saved")
        'saved'
    """
    return step()


def together(step: Callable[[], T]) -> T:
    """Take a step on every rank, and return what it returned on rank 0; no rank returns before all have taken it.

    Raises:
        RuntimeError: the step failed on another rank. Where it failed, its own exception is raised.

    Example:
        >>> together(lambda: "saved")
        'saved'
    """
    if world_size() == 1:
        return alone(step)
    result, problem = None, None
    try:
        result = step()
    except Exception as error:  # noqa: BLE001 - raised again below, once the others know
        problem = error
    outcomes = all_gather((result, problem and f"{type(problem).__name__}: {problem}"))
    if problem is not None:
        raise problem
    for other, (_, failure) in enumerate(outcomes):
        if failure is not None:
            raise RuntimeError(f"rank {rank()} stops because rank {other} failed: {failure}")
    return outcomes[0][0]  # type: ignore[return-value]  # None only where the step failed
