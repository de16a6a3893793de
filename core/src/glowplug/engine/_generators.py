"""Random number generators that belong to data: those of its samplers and of its dataset."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

# The search for generators is limited, because a dataset may hold millions of objects.
_DEEPEST, _LONGEST, _MOST_OBJECTS = 5, 32, 200

_SAMPLERS = ("sampler", "batch_sampler", "batch_sampler.sampler")


class _Access(NamedTuple):
    """Functions that get and set the state of a generator."""

    get: Callable[[], Any]
    set: Callable[[Any], object]


def states_of(data: object) -> dict[str, Any]:
    """Return the states of the generators as plain values and tensors, keyed by attribute path.

    Example:
        >>> import random
        >>> class Noise:
        ...     def __init__(self):
        ...         self.rng = random.Random(0)
        ...
        ...     def __iter__(self):
        ...         yield self.rng.random()
        >>> list(states_of(Noise()))
        ['rng']
    """
    return {path: access.get() for path, access in _found(data)}


def restore(data: object, states: Mapping[str, Any]) -> None:
    """Restore the states of the generators that still exist."""
    for path, access in _found(data):
        if path in states:
            access.set(states[path])


def _found(data: object) -> Iterator[tuple[str, _Access]]:
    """Yield the generators with their attribute paths, breadth first; each generator only once."""
    is_loader = hasattr(data, "dataset") and hasattr(data, "batch_sampler")
    roots = ("generator", "sampler", "batch_sampler", "dataset", "collate_fn") if is_loader else ()
    waiting = deque([(name, getattr(data, name, None), 1) for name in roots] or [("", data, 0)])
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_OBJECTS:
        path, value, depth = waiting.popleft()
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        access = _access_to(value)
        if access is None and path in _SAMPLERS and hasattr(value, "get_state"):
            # A user's sampler may offer its state like a generator of torch.
            access = _Access(value.get_state, value.set_state)
        if access is not None:
            yield path, access
        elif depth < _DEEPEST:
            below = _children(value)
            waiting.extend((f"{path}.{name}" if path else name, child, depth + 1) for name, child in below)


def _children(value: Any) -> list[tuple[str, Any]]:
    """Return the parts of an object that may contain generators."""
    if isinstance(value, (list, tuple, dict)):
        if len(value) > _LONGEST:
            return []
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [(str(key), child) for key, child in items if _may_contain(child)]
    return [(name, child) for name, child in _attributes(value).items() if _may_contain(child)]


def _may_contain(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return True
    # Modules, classes and functions are shared; tensors and arrays contain no generators.
    if isinstance(value, (ModuleType, FunctionType, type)) or hasattr(type(value), "dtype"):
        return False
    return bool(_attributes(value)) or _access_to(value) is not None


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that an object stores, without running code of its class."""
    try:
        found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return {}
    return found


def _access_to(value: Any) -> _Access | None:
    """Return how to access the state of a generator, or ``None`` for other objects."""
    random, numpy, torch = map(sys.modules.get, ("random", "numpy.random", "torch"))
    if torch is not None and isinstance(value, torch.Generator):
        return _Access(value.get_state, value.set_state)
    if numpy is not None and isinstance(value, numpy.Generator):
        return _bits(value.bit_generator)
    if numpy is not None and isinstance(value, numpy.RandomState):
        return _Access(lambda: _plain(value.get_state(legacy=False)), value.set_state)
    # A subclass, such as SystemRandom, may have no state.
    if random is not None and type(value) is random.Random:
        return _Access(value.getstate, lambda state: value.setstate((state[0], tuple(state[1]), state[2])))
    return None


def _bits(generator: Any) -> _Access:
    return _Access(lambda: _plain(generator.state), lambda state: setattr(generator, "state", state))


def _plain(state: Any) -> Any:
    """Convert the arrays of numpy's states to lists, which ``torch.load(weights_only=True)`` can load."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state
