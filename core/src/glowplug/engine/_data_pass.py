"""Data pass: one iteration over the data, and how to resume it in another process.

A pass over the data is one iterator. A later process makes the same pass again by putting the random number generators
back to where they were when the pass began, taking a new iterator, and skipping what had been used of it. Data that keeps
its own position (``state_dict`` and ``load_state_dict``, as torchdata's StatefulDataLoader) is asked instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from glowplug.engine import _rng

FORMAT = 1

# Iterating over one of these draws no random numbers, so there is nothing to put back.
_NOT_RANDOM = (list, tuple, range, str)


class DataPass:
    """One pass over the data, without its iterator, which may own processes.

    Args:
        data: what to iterate over.
        iteration: the engine's iteration before the first batch of this pass; ``None`` if it is not known yet.
    """

    def __init__(self, data: Iterable[Any], iteration: int | None) -> None:
        self.data = data
        self.first_iteration = iteration
        self.start: dict[str, Any] | None = None

    def begin(self) -> Iterator[Any]:
        """Take a new iterator over the data."""
        data = self.data
        if not isinstance(data, _NOT_RANDOM) and not is_stateful(data):
            self.start = {
                "random": _rng.capture(),
                "generators": _generators(data),
                "epochs": _epochs(data),
            }
        iterator = iter(data)
        # An iterator that is not iterable itself breaks the protocol, but next() takes it, and so do we.
        return iterator if hasattr(iterator, "__iter__") else iter(iterator.__next__, object())

    def begin_at(self, iteration: int) -> None:
        """Note that the next batch is taken after this iteration, and the first one of this pass if none was."""
        if self.first_iteration is None:
            self.first_iteration = iteration

    def position(self, iteration: int) -> dict[str, Any]:
        """Return how to get to the batch after this iteration, in plain values and tensors."""
        used = 0 if self.first_iteration is None else iteration - self.first_iteration
        if is_stateful(self.data):
            return {"used": used, "data": self.data.state_dict()}  # type: ignore[attr-defined]  # that was the question
        return {
            "used": used,
            "length": length_of(self.data),
            "start": self.start,
            "generators": _generators(self.data),
        }


def resumed(
    data: Iterable[Any], iteration: int, position: Mapping[str, Any]
) -> tuple[DataPass, Iterator[Any]]:
    """Return the pass that :meth:`DataPass.position` described, and its iterator at the batch after ``iteration``.

    The random number generators are left where they were.

    Raises:
        ValueError: the data cannot be brought to that batch.
    """
    used = position["used"]
    if "data" in position:
        if not is_stateful(data):
            raise ValueError(
                f"the saved run read its data through its state_dict(), and {type(data).__name__} has none: give run() "
                "the same kind of loader, such as torchdata's StatefulDataLoader"
            )
        data.load_state_dict(position["data"])  # type: ignore[attr-defined]  # that was the question
        current, data_pass = _rng.capture(), DataPass(data, iteration - used)
        iterator = data_pass.begin()
        _rng.restore(current)
        return data_pass, iterator
    length = length_of(data)
    # A sampler with a generator draws from it once more when its pass ends, so such a pass is made to the end.
    if not used or (used == position["length"] == length and not position["generators"]):
        _set_generators(data, position["generators"])
        data_pass = DataPass(data, iteration)
        return data_pass, data_pass.begin()
    if length != position["length"]:
        raise ValueError(
            f"the saved run stopped after {used} of {position['length']} batches, and this data has {length}: it is not "
            "the same data. Give run() the data of the saved run, or start at an epoch of your choice with "
            "load_state_dict({'epoch': ..., 'epoch_length': ..., 'max_epochs': ...})"
        )
    if isinstance(data, Iterator):  # not iter(data): that may draw random numbers
        raise ValueError(  # noqa: TRY004 - the data fits, its place does not
            f"the saved run stopped after {used} batches, and a {type(data).__name__} can be iterated only once, so "
            "nobody knows where it stands. Give run() something that can be iterated anew (a list, a DataLoader), or "
            "that has state_dict() and load_state_dict() (torchdata's StatefulDataLoader)"
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
    """Refuse a format of a later version.

    Raises:
        ValueError: another format than this version's.
    """
    if place.get("format") != FORMAT:
        raise ValueError(
            f"this engine's state is of format {place.get('format')!r}, and this version of glowplug knows format "
            f"{FORMAT}; load it with the version that wrote it"
        )


def is_stateful(data: object) -> bool:
    """Return whether the data saves its own position."""
    return hasattr(data, "state_dict") and hasattr(data, "load_state_dict")


def length_of(data: object) -> int | None:
    """Return the number of batches, where it is known."""
    try:
        return len(data)  # type: ignore[arg-type]  # whether it has a length is the question
    except TypeError:  # also that of a DataLoader over an IterableDataset
        return None


def _generators(data: object) -> dict[str, Any]:
    """Return the states of the generators that a loader has for itself."""
    return {path: part.get_state() for path, part in _parts(data) if hasattr(part, "get_state")}


def _set_generators(data: object, states: Mapping[str, Any]) -> None:
    for path, part in _parts(data):
        if path in states:
            part.set_state(states[path])


def _epochs(data: object) -> dict[str, int]:
    """Return the epochs that samplers were given with set_epoch()."""
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
    """Yield the samplers and generators of a DataLoader, by their path from it."""
    for path in ("generator", "sampler", "sampler.generator", "batch_sampler", "batch_sampler.sampler",
                 "batch_sampler.sampler.generator"):  # fmt: skip
        part: Any = data
        for name in path.split("."):
            part = getattr(part, name, None)
        if part is not None:
            yield path, part
