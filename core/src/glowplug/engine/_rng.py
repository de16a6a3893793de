"""States of the random number generators."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def capture() -> dict[str, Any]:
    """Return the states of the random number generators that are in use.

    The state of ``random``, ``numpy.random`` or ``torch`` is included if that module has been imported. The states of the CUDA
    generators are included if CUDA is initialized. The result contains only plain values and tensors, so ``torch.save`` can
    store it, and ``torch.load(weights_only=True)`` can load it.

    Example:
        >>> import random
        >>> before = capture()
        >>> first = random.random()
        >>> restore(before)
        >>> random.random() == first
        True
    """
    states: dict[str, Any] = {}
    random, numpy, torch = map(sys.modules.get, ("random", "numpy.random", "torch"))
    if random is not None:
        states["python"] = random.getstate()
    if numpy is not None:
        name, keys, position, has_gauss, gauss = numpy.get_state()
        states["numpy"] = (name, keys.tolist(), int(position), int(has_gauss), float(gauss))
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore(states: Mapping[str, Any]) -> None:
    """Restore states that :func:`capture` returned.

    Example:
        >>> restore(capture())
    """
    random, numpy, torch = map(sys.modules.get, ("random", "numpy.random", "torch"))
    if random is not None and "python" in states:
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
    if numpy is not None and "numpy" in states:
        numpy.set_state(tuple(states["numpy"]))
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            for device, state in zip(range(torch.cuda.device_count()), states["cuda"]):  # noqa: B905 - the number of devices may have changed
                torch.cuda.set_rng_state(state, device)


def keep_random_state(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorate a function so that the random number generators have the same states after each call as before.

    Use it for a handler that draws random numbers and must not influence the training. The generators of Python, numpy, torch and
    CUDA are restored, also after an exception.

    Args:
        function: The function.

    Returns:
        A function with the same arguments and the same result.

    Example:
        >>> import random
        >>> @keep_random_state
        ... def draw(count):
        ...     return [random.random() for _ in range(count)]
        >>> draw(3) == draw(3)
        True
    """

    @functools.wraps(function)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        states = capture()
        try:
            return function(*args, **kwargs)
        finally:
            restore(states)

    return wrapper


def reseeded(states: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return other states, which depend only on the states that :func:`capture` returned and on a number.

    The random number generators themselves do not change.

    Example:
        >>> first, second = (reseeded(capture(), number) for number in (1, 2))
        >>> first["python"] == second["python"]
        False
    """
    current = capture()
    restore(states)
    try:
        return {**states, **_seeded(states, number)}
    finally:
        restore(current)


def _seeded(states: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Seed each generator with the next number that it draws and another number; return the states of the generators."""
    random, numpy, torch = map(sys.modules.get, ("random", "numpy.random", "torch"))
    if random is not None:
        random.seed(random.getrandbits(64) + number)
    if numpy is not None:
        numpy.seed((int(numpy.randint(2**31)) + number) % 2**32)
    if torch is not None:
        seed = int(torch.randint(2**62, ())) + number
        # torch.manual_seed() would also seed the accelerators, even later, when they are initialized.
        torch.default_generator.manual_seed(seed)
    found = {name: state for name, state in capture().items() if name in states and name != "cuda"}
    if torch is not None and torch.cuda.is_available():
        devices = range(min(len(states.get("cuda", ())), torch.cuda.device_count()))
        found["cuda"] = [torch.Generator(f"cuda:{each}").manual_seed(seed).get_state() for each in devices]
    return found
