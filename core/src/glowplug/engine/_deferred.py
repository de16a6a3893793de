"""Checks for ``async`` and generator functions, whose code does not run when they are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, TypeVar

Result = TypeVar("Result")

DEFERRED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR
"""Code flags of functions that do not run when they are called."""

_AWAIT = "use a plain function that runs the coroutine with asyncio.run(...)"
_YIELD = "use a plain function without yield"
_KINDS: tuple[tuple[Callable[[Any], bool], str, str], ...] = (
    (inspect.iscoroutinefunction, "is an async function, which the engine does not await", _AWAIT),
    (inspect.isasyncgenfunction, "is an async generator function, which the engine does not run", _YIELD),
    (inspect.isgeneratorfunction, "is a generator function, which the engine does not run", _YIELD),
)


def check_function(function: Any, what: str) -> None:
    """Reject a function whose code does not run when it is called.

    Args:
        function: Any callable. For a ``functools.partial`` or a callable object, the underlying function is checked.
        what: Description of the function for the error message.

    Raises:
        TypeError: If ``function`` is an ``async`` function or a generator function.

    Example:
        >>> def step(engine, batch):
        ...     yield batch
        >>> check_function(step, "the step")
        Traceback (most recent call last):
            ...
        TypeError: the step is a generator function, which the engine does not run; use a plain function without yield
    """
    while isinstance(function, functools.partial):
        function = function.func
    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - the method itself is inspected
        for is_kind, problem, remedy in _KINDS:
            if is_kind(candidate):
                raise TypeError(f"{what} {problem}; {remedy}")


def check_result(result: Result, what: Callable[[], str]) -> Result:
    """Return the result of a call; raise an error if the result is a coroutine or generator.

    Args:
        result: What the call returned.
        what: Function that returns a description of the called function for the error message.

    Raises:
        TypeError: If ``result`` is a coroutine or a generator.

    Example:
        >>> check_result(0.5, lambda: "the step")
        0.5
        >>> check_result((batch for batch in [1, 2]), lambda: "the step")
        Traceback (most recent call last):
            ...
        TypeError: the step returned a generator, which has not run; use a plain function without yield
    """
    if not isinstance(result, (CoroutineType, GeneratorType, AsyncGeneratorType)):
        return result
    if not isinstance(result, AsyncGeneratorType):
        # Python would warn about a coroutine that is never awaited.
        result.close()
    kind, remedy = ("coroutine", _AWAIT) if isinstance(result, CoroutineType) else ("generator", _YIELD)
    raise TypeError(f"{what()} returned a {kind}, which has not run; {remedy}")
