"""Checks of options."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real


def check_integer(name: str, value: object) -> None:
    """Raise a ``TypeError`` if the value is not an integer."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")


def check_count(name: str, value: int) -> None:
    """Raise an error if the value is not an integer of at least 1."""
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise an error if the value is not ``None`` and not a positive number."""
    if value is None:
        return
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number or None, got {value!r}")
    if not float(value) > 0:
        raise ValueError(f"{name} must be positive, got {value!r}; None switches it off")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise a ``ValueError`` if the value is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
