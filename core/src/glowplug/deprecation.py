"""Deprecations of public names and arguments.

A deprecated name works until the version that removes it. Each use of the name causes a
:class:`~glowplug.exceptions.GlowplugDeprecationWarning`. A test fails if the name still exists in the version that removes it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from glowplug.exceptions import GlowplugDeprecationWarning

__all__ = ["DEPRECATIONS", "Deprecation", "deprecated"]

DEPRECATIONS: list[Deprecation] = []
"""The deprecations of all imported modules."""

_Target = TypeVar("_Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class Deprecation:
    """A name or an argument that will be removed; creating a deprecation adds it to :data:`DEPRECATIONS`.

    To deprecate an argument or a value, create a ``Deprecation`` in the module that defines it. For functions and classes, use
    :func:`deprecated`.

    Args:
        name: What is deprecated, as users write it, such as ``"Engine.run(epoch_size=)"``.
        since: First version that warns, such as ``"0.3"``.
        removed_in: Version without the name. Public names are removed in major versions only.
        use: What to use instead.

    Example:
        >>> EPOCH_SIZE = Deprecation("run(epoch_size=)", since="0.3", removed_in="2.0", use="epoch_length=")
        >>> def run(epoch_length=None, epoch_size=None):
        ...     if epoch_size is not None:
        ...         EPOCH_SIZE.warn()
        ...     return epoch_length or epoch_size
        >>> print(EPOCH_SIZE)
        run(epoch_size=) is deprecated since 0.3 and will be removed in 2.0; use epoch_length= instead
    """

    name: str
    since: str
    removed_in: str
    use: str

    def __post_init__(self) -> None:
        DEPRECATIONS.append(self)

    def __str__(self) -> str:
        return (
            f"{self.name} is deprecated since {self.since} and will be removed in {self.removed_in};"
            f" use {self.use} instead"
        )

    def warn(self, stacklevel: int = 2) -> None:
        """Warn the caller of the function that calls this method.

        Args:
            stacklevel: Which caller the warning shows, as in ``warnings.warn``. Defaults to 2, the caller of the function.
        """
        warnings.warn(str(self), GlowplugDeprecationWarning, stacklevel=stacklevel + 1)


def deprecated(*, since: str, removed_in: str, use: str) -> Callable[[_Target], _Target]:
    """Decorate a function, a method or a class that will be removed.

    Calling the function, or creating an object of the class or of a subclass, causes a warning.

    Args:
        since: First version that warns, such as ``"0.3"``.
        removed_in: Version without the name. Public names are removed in major versions only.
        use: What to use instead.

    Returns:
        The decorator.

    Example:
        >>> @deprecated(since="0.3", removed_in="2.0", use="double")
        ... def twice(value):
        ...     return 2 * value
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     twice(2)
        4
        >>> print(caught[0].message)
        twice is deprecated since 0.3 and will be removed in 2.0; use double instead
    """

    def decorate(target: _Target) -> _Target:
        deprecation = Deprecation(target.__qualname__, since, removed_in, use)
        # For mypy, the constructor of a class cannot be read or replaced.
        changed: Any = target
        function = changed.__init__ if isinstance(target, type) else changed

        @functools.wraps(function)
        def warn_and_call(*args: Any, **kwargs: Any) -> Any:
            deprecation.warn()
            return function(*args, **kwargs)

        if not isinstance(target, type):
            return cast("_Target", warn_and_call)
        changed.__init__ = warn_and_call
        return target

    return decorate
