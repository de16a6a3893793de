"""What scripts written for ignite take from its utils: seeds, a logger, batches on a device, one-hot vectors (U-001)."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, TextIO

from glowplug.distributed import rank

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from glowplug.supervised import convert_tensor

__all__ = ["convert_tensor", "manual_seed", "setup_logger", "to_onehot"]


def manual_seed(seed: int) -> None:
    """Seed the random number generators of Python, of torch (all devices), and of numpy where it is installed.

    Example:
        >>> manual_seed(3)
        >>> first = random.random()
        >>> manual_seed(3)
        >>> random.random() == first
        True
    """
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
    try:
        import numpy as np
    except ImportError:
        return
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is seeded


def to_onehot(indices: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return one-hot vectors.

    Args:
        indices: classes, integers of shape (N, ...).
        num_classes: C, how many classes there are.

    Returns:
        Zeros and ones of shape (N, C, ...), as ``uint8``.

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
    format: str = "%(asctime)s %(name)s %(levelname)s: %(message)s",  # noqa: A002 - ignite's name for it
    filepath: str | Path | None = None,
    distributed_rank: int | None = None,
    reset: bool = False,
    encoding: str | None = "utf-8",
) -> logging.Logger:
    """Return a logger that writes lines to a stream, and to a file if one is named; for scripts, not for libraries.

    Args:
        name: of the logger; ``None`` is the root logger.
        level: what is below it is not written.
        stream: where lines go; ``sys.stderr`` by default.
        format: of a line, as in ``logging.Formatter``.
        filepath: a file that gets the lines too, appended.
        distributed_rank: the number of this process; only 0 writes. By default that of ``torch.distributed``.
        reset: set a logger up anew that has been set up before; otherwise it is returned as it is.
        encoding: of the file.

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
    logger.propagate = False  # else a root logger with a handler writes each line again
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


def __getattr__(name: str) -> Any:
    if name == "convert_tensor":
        import glowplug

        return glowplug.convert_tensor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
