"""Data pass: one iteration over the data, and how to resume it in another process.

Each pass uses one iterator. A later process repeats the pass: it resets the random number generators to their states at
the beginning of the pass, creates a new iterator, and skips the batches that were already used. Data with
``state_dict`` and ``load_state_dict``, such as torchdata's StatefulDataLoader, restores its own position.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from glowplug.engine import _rng

FORMAT = 1

# Iterating over these types draws no random numbers.
_NOT_RANDOM = (list, tuple, range, str)


class DataPass:
    """One pass over the data.

    The iterator is stored elsewhere, because it may own worker processes.

    Args:
        data: The data.
        iteration: The engine's iteration before the first batch of the pass; ``None`` if it is not known yet.
    """

    def __init__(self, data: Iterable[Any], iteration: int | None) -> None:
        self.data = data
        self.first_iteration = iteration
        self.start: dict[str, Any] | None = None

    def begin(self) -> Iterator[Any]:
        """Create an iterator over the data."""
        data = self.data
        if not isinstance(data, _NOT_RANDOM) and not is_stateful(data):
            self.start = {
                "random": _rng.capture(),
                "generators": _generators(data),
                "epochs": _epochs(data),
            }
        iterator = iter(data)
        # Some iterators violate the protocol by lacking __iter__; wrap them.
        return iterator if hasattr(iterator, "__iter__") else iter(iterator.__next__, object())

    def begin_at(self, iteration: int) -> None:
        """Record the iteration before the first batch of the pass, if it is not known yet."""
        if self.first_iteration is None:
            self.first_iteration = iteration

    def position(self, iteration: int) -> dict[str, Any]:
        """Return the position after this iteration as plain values and tensors."""
        used = 0 if self.first_iteration is None else iteration - self.first_iteration
        if is_stateful(self.data):
            return {"used": used, "data": self.data.state_dict()}  # type: ignore[attr-defined]  # checked by is_stateful
        return {
            "used": used,
            "length": length_of(self.data),
            "start": self.start,
            "generators": _generators(self.data),
        }


def resumed(
    data: Iterable[Any], iteration: int, position: Mapping[str, Any]
) -> tuple[DataPass, Iterator[Any]]:
    """Restore a pass and return it with its iterator, positioned at the batch after ``iteration``.

    The states of the random number generators do not change.

    Args:
        data: The data of the pass.
        iteration: The engine's iteration.
        position: The result of :meth:`DataPass.position`.

    Raises:
        ValueError: If the data cannot be positioned at that batch.
    """
    used = position["used"]
    if "data" in position:
        if not is_stateful(data):
            raise ValueError(
                f"the saved run used data with state_dict(), but {type(data).__name__} has none; pass run() the same "
                "kind of loader, such as torchdata's StatefulDataLoader"
            )
        data.load_state_dict(position["data"])  # type: ignore[attr-defined]  # checked by is_stateful
        current, data_pass = _rng.capture(), DataPass(data, iteration - used)
        iterator = data_pass.begin()
        _rng.restore(current)
        return data_pass, iterator
    length = length_of(data)
    # A sampler draws from its generator once more at the end of a pass, so a complete pass with generators is replayed.
    if not used or (used == position["length"] == length and not position["generators"]):
        _set_generators(data, position["generators"])
        data_pass = DataPass(data, iteration)
        return data_pass, data_pass.begin()
    if length != position["length"]:
        raise ValueError(
            f"the saved run stopped after {used} of {position['length']} batches, but this data has {length}. Pass "
            "run() the data of the saved run, or start at the beginning of an epoch with "
            "load_state_dict({'epoch': ..., 'epoch_length': ..., 'max_epochs': ...})"
        )
    # Check the type, because calling iter(data) could draw random numbers.
    if isinstance(data, Iterator):
        raise ValueError(  # noqa: TRY004 - its type is right, its position is not
            f"the saved run stopped after {used} batches, but a {type(data).__name__} can be iterated only once, so this "
            "position cannot be restored. Pass run() data that can be iterated again (a list, a DataLoader), or that has "
            "state_dict() and load_state_dict() (torchdata's StatefulDataLoader)"
        )
    return _replayed(data, iteration, position)


def _replayed(
    data: Iterable[Any], iteration: int, position: Mapping[str, Any]
) -> tuple[DataPass, Iterator[Any]]:
    start, used = position["start"], position["used"]
    current, epochs = _rng.capture(), _epochs(data)
    if start is not None:
        _rng.restore(start["random"])
        _set_generators(data, start["generators"])
        _set_epochs(data, start["epochs"])
    data_pass = DataPass(data, iteration - used)
    iterator = data_pass.begin()
    deque(islice(iterator, used), maxlen=0)
    _set_generators(data, position["generators"])
    _set_epochs(data, epochs)
    _rng.restore(current)
    return data_pass, iterator


def check_format(place: Mapping[str, Any]) -> None:
    """Check the format of a saved position.

    Raises:
        ValueError: If another version of glowplug wrote it.
    """
    if place.get("format") != FORMAT:
        raise ValueError(
            f"the saved state has format {place.get('format')!r}, but this version of glowplug reads format {FORMAT}; "
            "load it with the version that wrote it"
        )


def is_stateful(data: object) -> bool:
    """Return whether the data saves its own position."""
    return hasattr(data, "state_dict") and hasattr(data, "load_state_dict")


def length_of(data: object) -> int | None:
    """Return the number of batches, if it is known."""
    try:
        return len(data)  # type: ignore[arg-type]  # it may have no length
    except TypeError:
        # A DataLoader over an IterableDataset has __len__, but calling it raises TypeError as well.
        return None


def _generators(data: object) -> dict[str, Any]:
    """Return the states of a loader's generators, by attribute path."""
    return {path: part.get_state() for path, part in _parts(data) if hasattr(part, "get_state")}


def _set_generators(data: object, states: Mapping[str, Any]) -> None:
    for path, part in _parts(data):
        if path in states:
            part.set_state(states[path])


def _epochs(data: object) -> dict[str, int]:
    """Return the epochs set with ``set_epoch``, by the attribute path of the sampler."""
    return {
        path: part.epoch
        for path, part in _parts(data)
        if hasattr(part, "set_epoch") and hasattr(part, "epoch")
    }


def _set_epochs(data: object, epochs: Mapping[str, int]) -> None:
    for path, part in _parts(data):
        if path in epochs:
            part.set_epoch(epochs[path])


def _parts(data: object) -> Iterator[tuple[str, Any]]:
    """Yield the samplers and generators of a DataLoader with their attribute paths."""
    for path in ("generator", "sampler", "sampler.generator", "batch_sampler", "batch_sampler.sampler",
                 "batch_sampler.sampler.generator"):  # fmt: skip
        part: Any = data
        for name in path.split("."):
            part = getattr(part, name, None)
        if part is not None:
            yield path, part
