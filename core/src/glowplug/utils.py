"""Utility functions, including those that ignite scripts import."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from glowplug.distributed import rank

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    Device: TypeAlias = str | torch.device | None

__all__ = ["convert_tensor", "manual_seed", "map_leaves", "setup_logger", "to_onehot"]


def convert_tensor(batch: Any, device: Device = None, non_blocking: bool = False) -> Any:
    """Return a batch with all its tensors on a device.

    Args:
        batch: Tensors, packed sequences, strings and ``None``, which can be nested in mappings, lists, tuples and named tuples.
        device: The device; ``None`` leaves the tensors where they are.
        non_blocking: Whether to copy from pinned memory asynchronously.

    Returns:
        The same structure with the tensors on the device; strings and ``None`` are unchanged.

    Raises:
        TypeError: If the batch contains an object of an unsupported type.

    Example:
        >>> import torch
        >>> convert_tensor({"x": torch.zeros(2), "names": ["a", "b"]}, device="meta")["x"].device
        device(type='meta')
    """
    import torch
    from torch.nn.utils.rnn import PackedSequence

    def move(leaf: Any) -> Any:
        if isinstance(leaf, (torch.Tensor, PackedSequence)):
            return leaf if device is None else leaf.to(device, non_blocking=non_blocking)  # type: ignore[arg-type]  # the annotation has one overload only
        if leaf is None or isinstance(leaf, (str, bytes)):
            return leaf
        raise TypeError(
            "a batch may contain only tensors, strings, None, mappings, lists and tuples, but this batch contains an object of "
            f"type {type(leaf).__name__}; convert this object in prepare_batch(batch, device, non_blocking)"
        )

    return map_leaves(batch, move)


def map_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to each leaf of nested mappings, tuples and lists.

    A ``torch.nn.utils.rnn.PackedSequence`` is a leaf. The containers keep their types and attributes, such as the default
    factory of a ``defaultdict``.

    Args:
        value: The nested containers, or a single leaf.
        function: Function of a leaf that returns the new leaf.

    Example:
        >>> map_leaves({"a": (1, [2])}, lambda leaf: leaf + 1)
        {'a': (2, [3])}
    """
    if isinstance(value, Mapping):
        mapped_items = {key: map_leaves(item, function) for key, item in value.items()}
        if not isinstance(value, MutableMapping):
            return type(value)(mapped_items)  # type: ignore[call-arg]  # mapping types accept a dict
        duplicate = copy.copy(value)
        duplicate.update(mapped_items)
        return duplicate
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        from torch.nn.utils.rnn import PackedSequence

        # The batch sizes of a packed sequence must stay on the CPU.
        is_leaf = isinstance(value, PackedSequence)
        return function(value) if is_leaf else type(value)(*(map_leaves(item, function) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_leaves(item, function) for item in value)
    return function(value)


def manual_seed(seed: int) -> None:
    """Seed the random number generators of Python, numpy and torch.

    Args:
        seed: The seed, from 0 to 2**32 - 1.

    Example:
        >>> manual_seed(3)
        >>> first = random.random()
        >>> manual_seed(3)
        >>> random.random() == first
        True
    """
    import numpy as np
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the purpose is to seed the global generator


def to_onehot(indices: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return one-hot vectors.

    Args:
        indices: Class indices, an integer tensor of shape (N, ...).
        num_classes: Number of classes C.

    Returns:
        A ``uint8`` tensor of zeros and ones with shape (N, C, ...).

    Example:
        >>> import torch
        >>> to_onehot(torch.tensor([0, 2]), num_classes=3)
        tensor([[1, 0, 0],
                [0, 0, 1]], dtype=torch.uint8)
    """
    import torch

    return torch.nn.functional.one_hot(indices, num_classes).movedim(-1, 1).to(torch.uint8)


def setup_logger(
    name: str | None = "glowplug",
    level: int = logging.INFO,
    stream: TextIO | None = None,
    format: str = "%(asctime)s %(name)s %(levelname)s: %(message)s",  # noqa: A002 - the name in ignite
    filepath: str | Path | None = None,
    distributed_rank: int | None = None,
    reset: bool = False,
    encoding: str | None = "utf-8",
) -> logging.Logger:
    """Configure and return a logger that writes to a stream and, optionally, to a file.

    Args:
        name: Name of the logger; ``None`` selects the root logger.
        level: Messages below this level are not written.
        stream: Stream to which lines are written. Defaults to ``sys.stderr``.
        format: Format of a line, as in ``logging.Formatter``.
        filepath: File to which lines are appended.
        distributed_rank: Rank of this process; only rank 0 writes. Defaults to the rank in ``torch.distributed``.
        reset: Whether to reconfigure a logger that already has a ``logging.Handler``. By default, a logger with a handler
            is returned unchanged.
        encoding: Encoding of the file.

    Example:
        >>> import sys
        >>> trainer_logger = setup_logger("trainer", stream=sys.stdout, format="%(name)s: %(message)s")
        >>> trainer_logger.info("epoch 1")
        trainer: epoch 1
    """
    logger = logging.getLogger(name)
    if logger.handlers and not reset:
        return logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    # Otherwise a logging.Handler of the root logger would write each line a second time.
    logger.propagate = False
    if (rank() if distributed_rank is None else distributed_rank) > 0:
        logger.addHandler(logging.NullHandler())
        return logger
    handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
    if filepath is not None:
        handlers.append(logging.FileHandler(filepath, encoding=encoding))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(format))
        logger.addHandler(handler)
    return logger
