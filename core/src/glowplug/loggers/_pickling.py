"""Attributes of an object, for pickling."""

from __future__ import annotations

import pickle
from typing import Any


def attributes_of(value: object) -> dict[str, Any]:
    """Return the attributes of an object, including those in ``__slots__``.

    Args:
        value: Any object.

    Example:
        >>> class Point:
        ...     __slots__ = ("x", "__dict__")
        >>> point = Point()
        >>> point.x, point.y = 1, 2
        >>> attributes_of(point)
        {'y': 2, 'x': 1}
    """
    found = dict(vars(value))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            is_private = slot.startswith("__") and not slot.endswith("__")
            name = f"_{kind.__name__.lstrip('_')}{slot}" if is_private else slot
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def can_be_pickled(value: object) -> bool:
    """Return whether a value can be pickled.

    Args:
        value: Any value.

    Example:
        >>> can_be_pickled(1), can_be_pickled(lambda: 1)
        (True, False)
    """
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - the exception depends on the type of the value
        return False
    return True
