"""The options of loggers, and their checks."""

from __future__ import annotations

import os
import threading
from numbers import Integral, Real
from typing import Any, TypedDict

from glowplug.loggers._delivery import OnError


class LoggerOptions(TypedDict, total=False):
    """Types of the keyword arguments of :class:`Logger`, for subclasses that accept ``**options: Unpack[LoggerOptions]``.

    Example:
        >>> from glowplug.loggers import Logger
        >>> class Quiet(Logger):
        ...     def __init__(self, **options: "Unpack[LoggerOptions]"):
        ...         super().__init__(**options)
        ...
        ...     def write_scalars(self, scalars, step, timestamp): ...
        >>> Quiet(timeout=5.0).timeout
        5.0
    """

    on_error: OnError
    capacity: int
    memory_limit: int
    timeout: float
    all_ranks: bool
    spool: bool | str | os.PathLike[str]
    durable: bool
    spool_limit: int


def check_limit(option: str, limit: Any) -> None:
    """Check a maximum number of records or bytes.

    Args:
        option: Name of the option.
        limit: Value of the option.

    Raises:
        TypeError: If the limit is not an integer.
        ValueError: If the limit is less than 1.

    Example:
        >>> check_limit("capacity", 0)
        Traceback (most recent call last):
            ...
        ValueError: capacity must be at least 1, got 0
    """
    if isinstance(limit, bool) or not isinstance(limit, Integral):
        raise TypeError(f"{option} must be an integer, got {limit!r}")
    if limit < 1:
        raise ValueError(f"{option} must be at least 1, got {limit!r}")


def check_timeout(timeout: Any) -> None:
    """Check a timeout.

    Args:
        timeout: Maximum number of seconds to wait.

    Raises:
        TypeError: If the timeout is not a number.
        ValueError: If the timeout is negative, NaN or longer than Python can wait.

    Example:
        >>> check_timeout(None)
        Traceback (most recent call last):
            ...
        TypeError: timeout must be a number of seconds, got None
    """
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise TypeError(f"timeout must be a number of seconds, got {timeout!r}")
    if not 0 <= float(timeout) <= threading.TIMEOUT_MAX:
        raise ValueError(
            f"timeout must be between 0 and {threading.TIMEOUT_MAX:.0f} seconds, got {timeout!r}"
        )
