"""Data pass: one pass over the data; another process can resume this pass.

Each pass uses one iterator. To resume a pass, another process restores the random number generators to their states at
the beginning of the pass, creates a new iterator, and skips the batches that were already used. Data with
``state_dict`` and ``load_state_dict``, such as torchdata's StatefulDataLoader, restores its own position.
"""

from __future__ import annotations

import sys
import warnings
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from glowplug.engine import _generators, _rng
from glowplug.exceptions import GlowplugWarning

FORMAT = 1

# The checksum that detects a reordered list covers about this many items, and this many values of each item.
_SAMPLED_ITEMS, _SAMPLED_VALUES = 64, 8

# Iterating over these types draws no random numbers and yields exactly len(data) batches.
_NOT_RANDOM = (list, tuple, range, str)

# The attribute of a sampler with the last number that it received from an engine.
_GIVEN_EPOCH = "_glowplug_epoch"


class DataPass:
    """One pass over the data.

    This object has no reference to the iterator, so the iterator and its worker processes can be released before this object.

    Args:
        data: The data.
        iteration: Value of ``state.iteration`` before the first batch of the pass; ``None`` if the value is not known yet.
    """

    # Whether the pass has ended. On resume, an ended pass is not repeated; the next one begins.
    is_over = False

    def __init__(self, data: Iterable[Any], iteration: int | None) -> None:
        self.data = data
        self.first_iteration = iteration
        self.start: dict[str, Any] | None = None
        # Data of these types always yields len(data) batches.
        self.has_exact_length = type(data) in _NOT_RANDOM

    def begin(self) -> Iterator[Any]:
        """Create an iterator over the data."""
        data = self.data
        if not isinstance(data, _NOT_RANDOM) and not is_stateful(data):
            self.start = {
                "random": _rng.capture(),
                "generators": _generators.states_of(data),
                "epochs": _epochs(data),
                "has_workers": _has_workers(data),
            }
        iterator = iter(data)
        # Some iterators violate the protocol by lacking __iter__; wrap them.
        return iterator if hasattr(iterator, "__iter__") else iter(iterator.__next__, object())

    def begin_at(self, iteration: int) -> None:
        """Record the value of ``state.iteration`` at which the pass starts, unless it is already known."""
        if self.first_iteration is None:
            self.first_iteration = iteration

    def position(self, iteration: int) -> dict[str, Any]:
        """Return, as plain values and tensors, the position of the pass after an iteration."""
        used = self.used(iteration)
        if is_stateful(self.data):
            return {"used": used, "data": self.data.state_dict()}  # type: ignore[attr-defined]  # checked by is_stateful
        return {
            "used": used,
            "length": length_of(self.data),
            "start": self.start,
            "generators": {} if isinstance(self.data, _NOT_RANDOM) else _generators.states_of(self.data),
            "has_workers": _has_workers(self.data),
            "fingerprint": _fingerprint(self.data) if used else None,
        }

    def used(self, iteration: int) -> int:
        """Return the number of batches that the pass yielded up to an iteration; return 0 if the pass has ended."""
        return 0 if self.is_over or self.first_iteration is None else iteration - self.first_iteration


def resumed(
    data: Iterable[Any], iteration: int, position: Mapping[str, Any]
) -> tuple[DataPass, Iterator[Any]]:
    """Restore a pass; return the pass and its iterator, which continues with the batch after ``iteration``.

    The states of the global random number generators do not change.

    Args:
        data: The data of the pass.
        iteration: The engine's iteration.
        position: The result of :meth:`DataPass.position`.

    Raises:
        ValueError: If a pass over ``data`` cannot continue with the batch after ``iteration``.
    """
    check_position(data, position)
    used = position["used"]
    if "data" in position:
        data.load_state_dict(position["data"])  # type: ignore[attr-defined]  # checked by check_position
        current, data_pass = _rng.capture(), DataPass(data, iteration - used)
        iterator = data_pass.begin()
        _rng.restore(current)
        return data_pass, iterator
    if used and not _is_complete(data, position):
        return _replayed(data, iteration, position)
    _start_workers(data, is_needed=position.get("has_workers", False))
    _generators.restore(data, position["generators"])
    data_pass = DataPass(data, iteration - used)
    return data_pass, iter(()) if used else data_pass.begin()


def check_position(data: Iterable[Any], position: Mapping[str, Any]) -> None:
    """Check, without changing anything, that a pass over this data can continue at a position.

    Raises:
        ValueError: If the pass cannot continue at this position.
    """
    used, length = position["used"], length_of(data)
    if "data" in position:
        if not is_stateful(data):
            raise ValueError(
                f"the data of the saved run had state_dict() and load_state_dict(), but this {type(data).__name__} lacks at "
                "least one of these methods. Call run() with the type of loader that the saved run used, such as torchdata's "
                "StatefulDataLoader"
            )
        return
    if not used or _is_complete(data, position):
        return
    if length != position["length"]:
        raise ValueError(
            f"the run stopped after {used} batches, and its data had length {position['length']}, but this data has length "
            f"{length}. Call run() with the same data, or start at the beginning of an epoch with "
            "load_state_dict({'epoch': ..., 'epoch_length': ..., 'max_epochs': ...})"
        )
    # Check the type, because calling iter(data) could draw random numbers.
    if isinstance(data, Iterator):
        raise ValueError(  # noqa: TRY004 - the type is valid, its position is unknown
            f"the run stopped after {used} batches, but a {type(data).__name__} cannot return to that position: it can be "
            "iterated over only once. Call run() with data that can be iterated over again, such as a list or a DataLoader, or "
            "with data that has state_dict() and load_state_dict(), such as torchdata's StatefulDataLoader"
        )
    if (position["start"] or {}).get("has_workers") and not _keeps_workers(data):
        raise ValueError(
            f"the run stopped after {used} batches of a loader whose workers were kept from an earlier pass, but this "
            f"{type(data).__name__} starts new workers in each pass, so its order would differ. Call run() with a DataLoader with "
            "persistent_workers=True, or start at the beginning of an epoch with "
            "load_state_dict({'epoch': ..., 'epoch_length': ..., 'max_epochs': ...})"
        )
    saved, found = position.get("fingerprint"), _fingerprint(data)
    if None not in (saved, found) and saved != found:
        raise ValueError(
            f"the run stopped after {used} batches, but the items of the {type(data).__name__} have since been changed or "
            "reordered, so continuing there could use some items twice and others never. Restore the items and their order "
            "before run(), or start at the beginning of an epoch with "
            "load_state_dict({'epoch': ..., 'epoch_length': ..., 'max_epochs': ...}). "
            "In later runs, shuffle with a DataLoader instead of reordering the items"
        )


def _is_complete(data: Iterable[Any], position: Mapping[str, Any]) -> bool:
    """Return whether all batches were used and a resumed run need not replay the pass."""
    if position["used"] != position["length"]:
        return False
    # A sampler draws from its generator once more at the end of a pass, so a pass with generators is repeated if possible.
    return not position["generators"] or length_of(data) != position["length"]


def _replayed(
    data: Iterable[Any], iteration: int, position: Mapping[str, Any]
) -> tuple[DataPass, Iterator[Any]]:
    start, used = position["start"], position["used"]
    current, epochs = _rng.capture(), _epochs(data)
    if start is not None:
        _start_workers(data, is_needed=start.get("has_workers", False))
        _rng.restore(start["random"])
        _generators.restore(data, start["generators"])
        _set_epochs(data, start["epochs"])
    data_pass = DataPass(data, iteration - used)
    iterator = data_pass.begin()
    deque(islice(iterator, used), maxlen=0)
    _generators.restore(data, position["generators"])
    _set_epochs(data, epochs)
    _rng.restore(current)
    return data_pass, iterator


def check_format(place: Mapping[str, Any]) -> None:
    """Check the format of a saved position.

    Raises:
        ValueError: If this version of glowplug cannot read the format, or if an entry is missing.
    """
    if place.get("format") != FORMAT:
        raise ValueError(
            f"the saved state has format {place.get('format')!r}, but this version of glowplug reads format {FORMAT}; "
            "load the state with the version of glowplug that saved it"
        )
    missing = {"epoch_iterations", "data", "random"} - place.keys()
    if missing:
        raise ValueError(
            f"'resume' of an engine's state must contain {', '.join(map(repr, sorted(missing)))}, got the keys {list(place)}; load a "
            "complete state, or omit 'resume' to start at the first batch of the data"
        )


def is_stateful(data: object) -> bool:
    """Return whether the data can save and restore its own position."""
    has_methods = hasattr(data, "state_dict") and hasattr(data, "load_state_dict")
    # The loaders of Hugging Face Accelerate always have the methods, which raise an AttributeError without this option.
    return has_methods and getattr(data, "use_stateful_dataloader", True)


def length_of(data: object) -> int | None:
    """Return the number of batches, or ``None`` if the number is unknown."""
    try:
        return len(data)  # type: ignore[arg-type]  # it may have no length
    except TypeError:
        # A DataLoader over an IterableDataset has __len__, but calling it raises TypeError as well.
        return None


def knows_length(data: object) -> bool:
    """Return whether ``len(data)`` is the number of batches, and not an estimate."""
    torch_data = sys.modules.get("torch.utils.data")
    dataset = getattr(data, "dataset", None)
    is_estimate = torch_data is not None and isinstance(dataset, torch_data.IterableDataset)
    return not is_estimate and length_of(data) is not None


def _keeps_workers(data: Any) -> bool:
    """Return whether the workers of a DataLoader outlive a pass."""
    return getattr(data, "persistent_workers", False) is True and getattr(data, "num_workers", 0) > 0


def _has_workers(data: Any) -> bool:
    """Return whether a DataLoader has workers from an earlier pass; then a new pass draws no seed for its workers."""
    return _keeps_workers(data) and getattr(data, "_iterator", None) is not None


def _start_workers(data: Iterable[Any], *, is_needed: bool) -> None:
    """Start the workers of a DataLoader that had kept them from an earlier pass, so that it draws the same random numbers."""
    if not (is_needed and _keeps_workers(data)) or _has_workers(data):
        return
    current, generators = _rng.capture(), _generators.states_of(data)
    iter(data)
    _generators.restore(data, generators)
    _rng.restore(current)
    warnings.warn(
        f"the {type(data).__name__} keeps its workers between passes, and the random states of the workers cannot be restored. "
        "The resumed run has the same samples in the same order but, if the dataset draws random numbers, other values. To resume "
        "exactly, train with persistent_workers=False",
        GlowplugWarning,
        stacklevel=2,
    )


def _epochs(data: object) -> dict[str, int]:
    """Return the epoch that each sampler received from ``set_epoch``, keyed by the sampler's attribute path."""
    return {
        path: part.epoch
        for path, part in _parts(data)
        if hasattr(part, "set_epoch") and hasattr(part, "epoch")
    }


def set_epoch(data: object, epoch: int) -> None:
    """Give the samplers of a DataLoader the number of the pass that begins, unless the script does so itself."""
    if data is None or isinstance(data, _NOT_RANDOM):
        return
    for _, part in _parts(data):
        if not (hasattr(part, "set_epoch") and hasattr(part, "epoch")):
            continue
        if part.epoch == getattr(part, _GIVEN_EPOCH, 0):
            part.set_epoch(epoch)
            setattr(part, _GIVEN_EPOCH, epoch)


def _set_epochs(data: object, epochs: Mapping[str, int]) -> None:
    for path, part in _parts(data):
        if path in epochs:
            part.set_epoch(epochs[path])


def _fingerprint(data: object) -> int | None:
    """Return a checksum of sampled items, which detects a reordered list or tuple; return ``None`` for other data.

    Example:
        >>> _fingerprint([1, 2, 3]) == _fingerprint([1, 3, 2])
        False
    """
    if not isinstance(data, (list, tuple)):
        return None
    step = max(1, len(data) // _SAMPLED_ITEMS)
    return zlib.crc32(repr([_digest(item) for item in data[::step]]).encode())


def _digest(item: Any, depth: int = 3) -> Any:
    """Return plain values that represent an item: its content if the type is supported, otherwise the name of the type."""
    if item is None or isinstance(item, (bool, int, float, complex, str, bytes)):
        return item
    if depth and isinstance(item, Mapping):
        return [(key, _digest(value, depth - 1)) for key, value in islice(item.items(), _SAMPLED_VALUES)]
    if depth and isinstance(item, (list, tuple)):
        return [_digest(value, depth - 1) for value in item[:_SAMPLED_VALUES]]
    is_on_device = getattr(getattr(item, "device", None), "type", "cpu") != "cpu"
    if hasattr(item, "shape") and hasattr(item, "reshape") and not is_on_device:
        # Sparse tensors cannot be reshaped.
        with suppress(RuntimeError):
            return tuple(item.shape), item.reshape(-1)[:_SAMPLED_VALUES].tolist()
    return type(item).__name__


def _parts(data: object) -> Iterator[tuple[str, Any]]:
    """Yield the samplers of a DataLoader with their attribute paths."""
    for path in ("sampler", "batch_sampler", "batch_sampler.sampler"):
        part: Any = data
        for name in path.split("."):
            part = getattr(part, name, None)
        if part is not None:
            yield path, part
